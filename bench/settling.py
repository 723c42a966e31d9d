"""Quotas that change while reports flow: how fast states follow, and who notices."""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

import aiohttp
from tests.support.daemon import DaemonProcess
from tests.support.load import Connection
from tests.support.postgres import Database
from tests.support.waiting import eventually

from bench.bell import Figure
from bench.ground import BEARER, TOKEN, durable_cluster
from bench.quota_states import (
    ALL,
    EVENTS,
    LIMIT,
    USERS,
    bodies,
    configure,
    event,
    ready,
    with_states,
)

STATES = 1_000_000
COUNTED = 200_000  # events that are counted anew
RATE = 200  # reports a second beside it
QUIET = 5.0  # seconds of reports before the change
SETTLED = 40.0  # seconds: "well under a minute"
AT_ONCE = 0.5


async def run(rounds: int) -> AsyncIterator[Figure]:
    """Fewer rounds than of others: each takes as long as what it measures."""
    rounds = max(1, rounds // 3)
    with tempfile.TemporaryDirectory() as made, durable_cluster() as cluster:
        folder, database = Path(made), cluster.create_database()
        async with with_states(folder, database, STATES) as process:
            limits = [
                await _changed(process, database, USERS | {"limit": LIMIT + n + 1}, ALL)
                for n in range(rounds)
            ]
            await _fill(process)
            counted = [
                await _changed(process, database, USERS, ALL | {"weights": {"output": n + 2}})
                for n in range(rounds)
            ]
    yield _figure(f"reload that changes the limit of {STATES:,} states, until all follow", limits)
    took = median(change.took for change in counted)
    yield _figure(f"reload that has {COUNTED:,} events counted anew", counted)
    yield Figure("counting anew", f"{COUNTED / took:,.0f} events/s", "reported", True)


@dataclass(slots=True)
class _Change:
    reload: float = 0.0  # seconds to its answer
    took: float = 0.0  # from its answer until all states followed
    before: list[float] = field(default_factory=list)  # seconds of reports
    meanwhile: list[float] = field(default_factory=list)

    @property
    def p99(self) -> tuple[float, float]:
        return quantiles(self.before, n=100)[98], quantiles(self.meanwhile, n=100)[98]


def _figure(what: str, changes: list[_Change]) -> Figure:
    took = median(change.took for change in changes)
    reload = median(change.reload for change in changes)
    quiet, beside = (median(p) * 1000 for p in zip(*(c.p99 for c in changes), strict=True))
    slowest = max(max(change.meanwhile) for change in changes)
    return Figure(
        what,
        f"{took:.1f} s, the reload itself {reload * 1000:.0f} ms; p99 of {RATE} reports/s beside "
        f"it {beside:.0f} ms, before it {quiet:.0f} ms, the slowest {slowest:.2f} s; "
        f"{len(changes)} rounds",
        f"≤ {SETTLED:.0f} s, reload ≤ {AT_ONCE} s",
        took <= SETTLED and reload <= AT_ONCE,
    )


async def _changed(process: DaemonProcess, database: Database, *quotas: object) -> _Change:
    change, changed, stop = _Change(), asyncio.Event(), asyncio.Event()
    sending = asyncio.create_task(_report(process.url, change, changed, stop))
    await asyncio.sleep(QUIET)
    configure(process.config.parent, database, *quotas)  # type: ignore[arg-type]
    async with aiohttp.ClientSession(process.url, headers=BEARER) as session:
        changed.set()
        begun = time.monotonic()
        async with session.post("/-/reload") as answer:
            assert answer.status == 204, await answer.text()
        change.reload = time.monotonic() - begun
    await eventually(lambda: ready(database), timeout=300, every=0.2)
    change.took = time.monotonic() - begun
    stop.set()
    await sending
    return change


async def _report(url: str, change: _Change, changed: asyncio.Event, stop: asyncio.Event) -> None:
    """Single events at a steady rate, however slow the answers are."""
    loop = asyncio.get_running_loop()
    idle: list[Connection] = []
    begun, sent = loop.time(), 0

    async def send(number: int) -> None:
        connection = idle.pop() if idle else Connection(TOKEN)
        body = json.dumps(event(number * 7919 % STATES)).encode()
        started, into = time.monotonic(), change.meanwhile if changed.is_set() else change.before
        answer = await connection.post(url + EVENTS, body)
        assert answer.status == 200, answer
        into.append(time.monotonic() - started)
        idle.append(connection)

    async with asyncio.TaskGroup() as group:
        while not stop.is_set():
            while sent < (loop.time() - begun) * RATE:
                sent += 1
                group.create_task(send(sent))
            await asyncio.sleep(0.002)


async def _fill(process: DaemonProcess) -> None:
    connection = Connection(TOKEN, timeout=60)
    for body in bodies(STATES, 1_000, COUNTED // 1_000):
        answer = await connection.post(process.url + EVENTS, body)
        assert answer.status == 200, answer.body[:300]
    connection.abort()
