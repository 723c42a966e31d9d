"""Connections: what went wrong in the words of the product, and the way back."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from quotabell import log
from quotabell.errors import Conflict, QuotabellError, Refused, Unavailable
from quotabell.store import database as module
from quotabell.store.database import Database, DatabaseClock
from quotabell.ticks import ticks
from tests.support import postgres
from tests.support.waiting import eventually


@pytest_asyncio.fixture
async def opened(empty_dsn: str) -> AsyncIterator[Database]:
    found = Database(
        empty_dsn, pool_size=2, prepared_statements=True, log=log.configure("error").get_logger()
    )
    await found.open()
    yield found
    await found.close()


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("select 1 / 0", Refused),
        ("select 'x'::int", Refused),
        ("select 9223372036854775807 + 1", Refused),
        ("do $$ begin raise sqlstate '23514'; end $$", Refused),
        ("do $$ begin raise sqlstate '40001'; end $$", Conflict),
        ("do $$ begin raise sqlstate '40P01'; end $$", Conflict),
        ("do $$ begin raise sqlstate '57014'; end $$", Unavailable),
        ("do $$ begin raise sqlstate '53100'; end $$", Unavailable),
        ("select * from nothing", Unavailable),
        ("selec", Unavailable),
        ("select pg_terminate_backend(pg_backend_pid())", Unavailable),
    ],
)
async def test_errors_of_the_server_are_translated(
    opened: Database, statement: str, error: type[QuotabellError]
):
    with pytest.raises(error) as caught:
        await opened.execute(statement)

    assert type(caught.value) is error
    assert await opened.fetch("select 1")


async def test_a_transaction_that_is_cut_for_want_of_an_answer_says_so(opened: Database) -> None:
    with pytest.raises(Unavailable, match="no answer in time"):
        async with opened.transaction() as connection:
            await connection.execute("select pg_sleep(60)", timeout=0.05)

    assert await opened.fetch("select 1")


async def test_values_that_the_driver_cannot_send_are_refused(opened: Database):
    for value in ("a", 2**70):
        with pytest.raises(Refused):
            await opened.fetch("select $1::int", value)
    with pytest.raises(Refused):
        await opened.fetch("select $1::text", "\ud800")


async def test_a_server_that_is_not_there_is_unavailable():
    nowhere = Database(
        "postgresql://nobody@127.0.0.1:1/none",
        pool_size=2,
        prepared_statements=True,
        log=log.configure("error").get_logger(),
    )
    with pytest.raises(Unavailable):
        await nowhere.open()
    await nowhere.close()


async def test_a_statement_that_takes_too_long_is_given_up_with_its_connection(
    opened: Database,
):
    started = time.monotonic()
    for opening in (opened.connection, opened.transaction):
        pid = 0
        with pytest.raises(Unavailable, match="no answer in time"):  # noqa: PT012 - opening is part
            async with opening() as connection:
                pid = connection.get_server_pid()
                await connection.fetch("select pg_sleep(60)", timeout=0.2)
        (row,) = await opened.fetch("select pg_backend_pid() as pid")
        assert row["pid"] != pid

    assert time.monotonic() - started < 2


async def test_a_server_that_falls_silent_is_given_up_too(opened: Database):
    """No cancelling and no ROLLBACK would be answered either."""
    for opening in (opened.connection, opened.transaction):
        pid = 0
        started = time.monotonic()
        try:
            with pytest.raises(Unavailable):  # noqa: PT012 - opening is part of it
                async with opening() as connection:
                    pid = connection.get_server_pid()
                    os.kill(pid, signal.SIGSTOP)
                    await connection.fetch("select 1", timeout=0.2)
            await opened.fetch("select 1")
            assert time.monotonic() - started < 2
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_a_transaction_whose_session_ends_says_what_ended_it(opened: Database):
    with pytest.raises(Unavailable, match="terminating connection"):
        async with opened.transaction() as connection:
            await connection.execute("select pg_terminate_backend(pg_backend_pid())")


async def test_a_transaction_is_undone_by_any_error(opened: Database):
    await opened.execute("create table t (a int)")
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - opening is part of it
        async with opened.transaction() as connection:
            await connection.execute("insert into t values (1)")
            raise ZeroDivisionError

    assert await opened.fetch("select * from t") == []


async def test_reads_that_hang_do_not_make_the_database_look_lost(
    opened: Database, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "CONNECT_TIMEOUT", 0.2)
    async with opened.connection(), opened.connection():
        with pytest.raises(Unavailable):
            await opened.fetch("select 1")
        await opened.probe()

        assert opened.up


async def test_a_lost_database_is_noticed_and_found_again(
    opened: Database, empty_database: postgres.Database
):
    watching = asyncio.create_task(opened.watch())
    name, cluster = empty_database.name, empty_database.cluster
    await asyncio.to_thread(
        cluster.execute,
        f"alter database {name} allow_connections false;"
        f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'",
    )
    await eventually(lambda: not opened.up, timeout=2)
    await asyncio.to_thread(cluster.execute, f"alter database {name} allow_connections true")
    await eventually(lambda: opened.up, timeout=2)
    opened.suspect()
    assert not opened.up
    await eventually(lambda: opened.up, timeout=2)
    watching.cancel()


async def test_only_what_a_probe_finds_is_told_of_a_suspicion(empty_dsn: str):
    said = io.StringIO()
    logger = log.configure("info", "logfmt", said).get_logger()
    database = Database(empty_dsn, pool_size=2, prepared_statements=True, log=logger)
    await database.open()
    for _ in range(5):
        database.suspect()  # as on a full disk, where reading goes well
        assert not database.up
        await database.probe()
        assert database.up
    await database.close()

    database.suspect()
    await database.probe()

    assert [line.count("database connected") for line in said.getvalue().splitlines()] == [1, 0]
    assert "database lost" in said.getvalue()


async def test_a_database_that_takes_no_writes_counts_as_away_until_it_does(
    opened: Database, empty_database: postgres.Database
):
    name, admin = empty_database.name, empty_database.cluster
    alter = f"alter database {name} set default_transaction_read_only = "
    await asyncio.to_thread(admin.execute, alter + "on")
    await opened.ingest.expire_connections()  # whose sessions began before

    await opened.probe()
    assert not opened.up
    assert abs(opened.clock.offset) < 60  # it was asked nevertheless

    await asyncio.to_thread(admin.execute, alter + "off")
    await opened.probe()  # by a connection of its own, which may lead elsewhere than before
    assert opened.up


async def test_the_clock_follows_the_database(opened: Database, empty_dsn: str):
    connection = await asyncpg.connect(empty_dsn)
    before = await connection.fetchval("select clock_timestamp()")
    estimate = opened.clock.now()
    after = await connection.fetchval("select clock_timestamp()")
    await connection.close()

    slack = timedelta(milliseconds=50)
    assert before - slack <= estimate <= after + slack
    assert abs(opened.clock.offset) < 1


def test_a_clock_that_was_never_measured_is_the_local_one():
    assert abs(DatabaseClock().now() - datetime.now(UTC)) < timedelta(seconds=1)


def test_the_offset_is_positive_if_the_local_clock_is_ahead():
    clock = DatabaseClock()
    now = ticks()
    clock.measured(datetime.now(UTC) - timedelta(hours=1), now, now)

    assert clock.offset == pytest.approx(3600, abs=1)
    assert abs(clock.now() - (datetime.now(UTC) - timedelta(hours=1))) < timedelta(seconds=1)


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="only Linux tells of sleep")
def test_after_the_machine_slept_the_clock_is_right_before_it_is_measured_again(
    monkeypatch: pytest.MonkeyPatch,
):
    clock = DatabaseClock()
    evening = datetime(2026, 11, 22, 23, tzinfo=UTC)
    clock.measured(evening, ticks(), ticks())
    slept, real = 8 * 3600.0, time.clock_gettime
    monkeypatch.setattr(
        time, "clock_gettime", lambda which: real(which) + slept * (which == time.CLOCK_BOOTTIME)
    )

    assert abs(clock.now() - evening - timedelta(hours=8)) < timedelta(seconds=5)


@pytest.mark.parametrize("prepared", [True, False])
async def test_a_forgotten_transaction_is_ended_by_the_server(empty_dsn: str, prepared: bool):
    database = Database(
        empty_dsn, pool_size=1, prepared_statements=prepared, log=log.configure().get_logger()
    )
    await database.open()
    try:
        for pool in (database.pool, database.ingest):
            async with database.transaction(pool) as connection:
                show = "show idle_in_transaction_session_timeout"
                assert await connection.fetchval(show) == "10s"
    finally:
        await database.close()
