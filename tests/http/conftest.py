"""A daemon for all tests of a module, on a database of its own, without tokens.

Tests of this folder share one event loop a module, so that the daemon can.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.http.client import Client, serving
from tests.http.people import TOKENS
from tests.support.bell import Bell, bell
from tests.support.daemon import configure
from tests.support.postgres import TEMPLATE, Cluster, Database


@pytest.fixture(scope="module")
def shared_database(postgres_18: Cluster) -> Iterator[Database]:
    database = postgres_18.create_database(TEMPLATE)
    yield database
    postgres_18.drop_database(database.name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(
    shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    async with serving(configure(tmp_path_factory.mktemp("daemon"), shared_database.dsn)) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(
    shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    """A daemon with the tokens of `people`, on the module's database."""
    folder = tmp_path_factory.mktemp("guarded")
    config = configure(folder, shared_database.dsn, auth={"tokens": TOKENS})
    async with serving(config) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def it(shared_database: Database) -> AsyncIterator[Bell]:
    """The module's database by plain SQL."""
    async with bell(shared_database.dsn) as ready:
        yield ready


@pytest_asyncio.fixture(loop_scope="module")
async def daemon(guarded: Client, it: Bell) -> Client:
    """``guarded`` without any usage, thresholds or alerts."""
    await it.execute("delete from token_usage")
    await it.execute("delete from token_thresholds")
    await it.execute("delete from alerts")
    return guarded
