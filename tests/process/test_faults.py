"""Killed, stopped and cut off under load; `python -m tests.drills` is the long form."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.drills.ground import DurableCluster, Ground, durable_cluster, ground
from tests.drills.kill import kill
from tests.drills.outage import outage
from tests.drills.stop import stop
from tests.support.load import Connection, snapshot
from tests.support.postgres import Database


@pytest.fixture
async def field(database: Database, tmp_path: Path) -> AsyncIterator[Ground]:
    async with ground(database, tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def cluster() -> Iterator[DurableCluster]:
    with durable_cluster() as made:
        yield made


@pytest.fixture
async def durable(cluster: DurableCluster, tmp_path: Path) -> AsyncIterator[Ground]:
    async with ground(cluster.create_database(), tmp_path) as made:
        yield made


async def test_what_was_acknowledged_survives_ten_kills(field: Ground) -> None:
    report = await kill(field, times=10, seed=1)

    assert report.faults == []
    assert report.figures["outcomes"]["Cut"] > 0  # the kills did hit requests


async def test_an_immediate_stop_of_postgres_loses_nothing_and_stops_nobody_for_long(
    durable: Ground, cluster: DurableCluster
) -> None:
    report = await outage(durable, cluster.crash, cluster.restart, times=2, away=1.0, seed=1)

    assert report.faults == []


async def test_a_postgres_that_hangs_is_answered_for_in_time(
    durable: Ground, cluster: DurableCluster
) -> None:
    report = await outage(durable, cluster.freeze, cluster.thaw, times=1, away=1.0, seed=1)

    assert report.faults == []


async def test_a_stop_under_load_answers_every_request(field: Ground) -> None:
    report = await stop(field, before=1.0)

    assert report.faults == []
    assert report.figures["answers that closed a connection that was kept"] >= 32  # of 64
    assert report.figures["found the port closed"] > 0  # the load outlived the daemon


async def test_an_idle_connection_is_closed_and_not_reset(field: Ground) -> None:
    untouched, used = Connection(), Connection()
    await untouched.open(field.url())
    await used.post(field.url() + "/api/token-monitor/update", snapshot("model", 1))

    begun = time.monotonic()
    code, *_ = await asyncio.gather(field.daemon.end(), untouched.ended(), used.ended())

    assert code == 0
    assert time.monotonic() - begun < 10
