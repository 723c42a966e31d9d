"""The daemon's end: every task ends, and nobody waits for a database that does not answer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import pytest
import pytest_asyncio

from quotabell import lifetime, log
from quotabell.errors import Unavailable
from quotabell.lifetime import Tasks, leave
from quotabell.store.database import Database
from tests.support.postgres import Database as Ground
from tests.support.waiting import eventually


@pytest_asyncio.fixture
async def opened(empty_dsn: str) -> AsyncIterator[Database]:
    logger = log.configure("error").get_logger()
    found = Database(empty_dsn, pool_size=2, prepared_statements=True, log=logger)
    await found.open()
    yield found
    await found.close()


async def test_a_task_within_a_transaction_of_a_silent_server_ends(
    opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ROLLBACK that follows a cancellation fails, and hides it with its own error."""
    monkeypatch.setattr(lifetime, "_AGAIN", 0.2)
    silent: list[int] = []

    async def work() -> NoReturn:
        while True:
            with contextlib.suppress(Unavailable):
                async with opened.transaction() as connection:
                    silent.append(connection.get_server_pid())
                    os.kill(silent[-1], signal.SIGSTOP)
                    await connection.fetch("select 1")

    try:
        async with asyncio.timeout(15), contextlib.AsyncExitStack() as stack:
            Tasks(stack).start(work())
            await eventually(lambda: silent)
    finally:
        for pid in silent:
            os.kill(pid, signal.SIGCONT)


async def test_a_task_that_fails_as_it_is_cancelled_leaves_no_complaint() -> None:
    complaints: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, of: complaints.append(of))

    async def work() -> NoReturn:
        try:
            await asyncio.Event().wait()
        finally:
            raise Unavailable

    async with contextlib.AsyncExitStack() as stack:
        Tasks(stack).start(work())
        await asyncio.sleep(0)
    del stack
    gc.collect()

    assert complaints == []


async def test_at_the_end_nobody_waits_for_a_database_that_does_not_answer(
    opened: Database,
) -> None:
    waiting = [asyncio.create_task(opened.fetch("select pg_sleep(20)")) for _ in range(3)]
    await asyncio.sleep(0)
    await leave(opened)
    assert not any(task.done() for task in waiting)

    async with opened.connection(opened.ingest) as connection:
        silent = connection.get_server_pid()
    os.kill(silent, signal.SIGSTOP)
    try:
        await leave(opened)
        async with asyncio.timeout(3):
            found = await asyncio.gather(*waiting, return_exceptions=True)
            with pytest.raises(Unavailable):
                await opened.fetch("select 1")
    finally:
        os.kill(silent, signal.SIGCONT)

    assert [type(error) for error in found] == [Unavailable] * 3


async def test_a_database_that_refuses_is_there_again_for_what_is_sent_at_the_end(
    opened: Database, empty_database: Ground
) -> None:
    only_here = f"where datname = '{empty_database.name}'"
    empty_database.cluster.execute(
        f"alter database {empty_database.name} allow_connections false;"
        f"select pg_terminate_backend(pid) from pg_stat_activity {only_here}"
    )
    await leave(opened)
    assert not opened.up
    empty_database.cluster.execute(f"alter database {empty_database.name} allow_connections true")

    async def answers() -> bool:
        with contextlib.suppress(Unavailable):  # what was cut is noticed by its next use
            return bool(await opened.fetch("select 1"))
        return False

    await eventually(answers)
