"""A daemon, its push service and real browsers, together in an empty network where possible.

Each test has a daemon and a database of its own, so also an origin of its own: no permission,
worker or subscription is left from another test. A browser is started once a module.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from quotabell.http import listener
from tests.browser.common import PATIENCE, Site, site
from tests.support import chromium, firefox
from tests.support.autopush import Autopush
from tests.support.firefox import Firefox
from tests.support.netns import empty_network
from tests.support.postgres import TEMPLATE, Cluster, Database


@pytest.fixture(scope="package", autouse=True)
def patience() -> Iterator[None]:
    expect.set_options(timeout=PATIENCE * 1000)
    yield
    expect.set_options(timeout=None)


@pytest.fixture(scope="package", autouse=True)
def network(postgres_18: Cluster) -> Iterator[None]:
    """After the database server, which other tests reach by the network that was there."""
    with empty_network():
        yield


def program(name: str) -> str:
    """Where a browser is; without it the tests that need it are skipped, but never in CI."""
    found = shutil.which(name)
    if found is None:
        missing = f"{name} is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(missing)
        pytest.skip(missing)
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def push() -> AsyncIterator[Autopush]:
    async with Autopush() as push:
        yield push


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fox(push: Autopush) -> AsyncIterator[Firefox]:
    async with Firefox(push.socket_url, program(firefox.PROGRAM)) as fox:
        yield fox


@pytest.fixture
def fresh_database(postgres_18: Cluster) -> Iterator[Database]:
    database = postgres_18.create_database(TEMPLATE)
    yield database
    postgres_18.drop_database(database.name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium.chromium(program(chromium.PROGRAM)) as browser:
        yield browser


@pytest.fixture
def brief_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser keeps its connections open for longer than a test wants to wait at its end."""
    monkeypatch.setattr(listener, "LINGERING", 0.1)


@pytest_asyncio.fixture(loop_scope="module")
async def here(
    fresh_database: Database, tmp_path: Path, browser: Browser, brief_end: None
) -> AsyncIterator[Site]:
    """A daemon without tokens, to be looked at with Chromium."""
    async with site(browser, tmp_path, fresh_database.dsn) as here:
        yield here
