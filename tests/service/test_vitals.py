"""What ``/metrics`` tells about the database itself, on a real one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from functools import partial

import pytest

from quotabell import log
from quotabell.metrics import Metrics
from quotabell.service.vitals import DatabaseVitals
from quotabell.store import vitals as store
from quotabell.store.database import Database
from quotabell.store.partitions import Partitions
from quotabell.store.vitals import TABLES, VitalsStore
from tests.support.postgres import connected
from tests.support.prometheus import check_metrics
from tests.support.waiting import eventually

LOG = log.configure("error").get_logger()
OLDEST = "quotabell_database_oldest_transaction_seconds"
PARTITIONED = """
select relname::text from pg_class
where relkind = 'p' and relnamespace = 'public'::regnamespace order by 1
"""


@pytest.fixture
async def database(any_dsn: str) -> AsyncIterator[Database]:
    opened = Database(any_dsn, pool_size=4, prepared_statements=True, log=LOG)
    await opened.open()
    try:
        yield opened
    finally:
        await opened.close()


@pytest.fixture
async def metrics(database: Database) -> AsyncIterator[Metrics]:
    metrics = Metrics()
    running = asyncio.create_task(DatabaseVitals(database, metrics, LOG, every=0.05).run())
    try:
        await eventually(partial(known, metrics))
        yield metrics
    finally:
        running.cancel()


def known(metrics: Metrics) -> bool:
    return metrics.registry.get_sample_value(OLDEST) is not None


def of_table(metrics: Metrics, name: str, table: str) -> float | None:
    return metrics.registry.get_sample_value(f"quotabell_database_{name}", {"table": table})


async def test_partitions_are_counted_and_so_is_what_is_in_them(
    database: Database, any_dsn: str
) -> None:
    days = Partitions(database, "usage_events", "day")
    await days.drop_before(date(2100, 1, 1))
    (empty,) = [t for t in (await measured(database)) if t.name == "usage_events"]
    await days.keep(date(2026, 3, 1), date(2026, 3, 4))
    async with connected(any_dsn) as connection:
        await connection.execute("set timezone = 'America/New_York'")
        assert [row[0] for row in await connection.fetch(PARTITIONED)] == [
            t.name for t in await measured(database) if t.partitions is not None
        ]
        ends = datetime(2026, 3, 5, tzinfo=UTC)
        (kept,) = [t for t in await measured(database) if t.name == "usage_events"]

        assert (empty.partitions, empty.partitions_end) == (0, None)
        assert (kept.partitions, kept.partitions_end) == (4, ends)
        assert kept.bytes > empty.bytes == 0


async def test_rows_alive_and_dead_are_those_of_the_statistics(
    database: Database, any_dsn: str
) -> None:
    async with connected(any_dsn) as connection:
        await connection.execute("alter table token_totals set (autovacuum_enabled = false)")
        await connection.execute(
            "insert into token_totals (provider, model) select 'p', n::text"
            " from generate_series(1, 500) as n"
        )
        await connection.execute("delete from token_totals where model::integer > 300")
        await connection.execute("select pg_stat_force_next_flush()")
        await connection.fetch("select 1")

        async def seen() -> bool:
            (table,) = [t for t in await measured(database) if t.name == "token_totals"]
            return (table.live_rows, table.dead_rows) == (300, 200)

        await eventually(seen, timeout=5)


async def measured(database: Database) -> tuple[store.TableVitals, ...]:
    return (await VitalsStore(database).measure()).tables


async def test_the_oldest_transaction_is_that_of_whoever_has_it_open(
    metrics: Metrics, any_dsn: str
) -> None:
    def oldest() -> float:
        return metrics.registry.get_sample_value(OLDEST) or 0.0

    async with connected(any_dsn) as connection:
        async with connection.transaction():
            await connection.execute("select 1")
            await eventually(lambda: oldest() > 0.3)
        await eventually(lambda: oldest() < 0.3)


async def test_every_table_that_grows_is_shown_in_the_form_that_prometheus_wants(
    metrics: Metrics,
) -> None:
    text = metrics.render()

    assert check_metrics(text.encode()) == ""
    for name in ("table_bytes", "table_live_rows", "table_dead_rows"):
        assert {t: of_table(metrics, name, t) is not None for t in TABLES} == dict.fromkeys(
            TABLES, True
        )
    pools = "quotabell_database_pool_limit_connections"
    assert metrics.registry.get_sample_value(pools, {"pool": "other"}) == 4


async def test_what_is_not_known_any_more_is_absent(
    metrics: Metrics, any_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table whose size cannot be had, since somebody rewrites it."""
    monkeypatch.setattr(store, "TIMEOUT", 0.2)
    async with connected(any_dsn) as connection:
        async with connection.transaction():
            await connection.execute("lock table alerts")
            await eventually(lambda: not known(metrics), every=0.005)
            assert of_table(metrics, "table_bytes", "token_usage") is None
        await eventually(partial(known, metrics))
    assert of_table(metrics, "table_bytes", "token_usage") is not None


async def test_while_the_database_is_away_nothing_is_told_of_it(
    metrics: Metrics, database: Database
) -> None:
    database.suspect()
    assert not known(metrics)
    assert of_table(metrics, "table_bytes", "token_usage") is None

    await database.probe()
    assert known(metrics)
