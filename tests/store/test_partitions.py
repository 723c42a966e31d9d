"""Partitions by day and month: made ahead, dropped without blocking, whatever was cut off."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from quotabell import log
from quotabell.store.database import Database
from quotabell.store.partitions import Partitions, days_to_keep
from tests.support.postgres import connected

ATTACHED = """
select c.relname, pg_get_expr(c.relpartbound, c.oid) from pg_inherits i
join pg_class c on c.oid = i.inhrelid where i.inhparent = 'usage_samples'::regclass order by 1
"""


@pytest_asyncio.fixture
async def months(any_dsn: str) -> AsyncIterator[Partitions]:
    database = Database(
        any_dsn, pool_size=4, prepared_statements=True, log=log.configure("error").get_logger()
    )
    await database.open()
    yield Partitions(database, "usage_samples", "month")
    await database.close()


async def attached(months: Partitions) -> dict[str, str]:
    return dict([tuple(row) for row in await months.database.fetch(ATTACHED)])


async def test_months_reach_from_the_one_of_the_first_day_to_that_of_the_last(
    months: Partitions,
) -> None:
    # Whatever zone the session has.
    await months.database.execute("alter role quotabell set timezone = 'Pacific/Auckland'")
    try:
        assert await months.keep(date(2025, 11, 30), date(2026, 2, 1)) == 4
        assert await months.keep(date(2025, 11, 30), date(2026, 2, 1)) == 0
    finally:
        await months.database.execute("alter role quotabell reset timezone")

    assert (await attached(months)).keys() == {
        f"usage_samples_{month}" for month in ("202511", "202512", "202601", "202602")
    }
    insert = "insert into usage_samples (state_id, time, used) values (gen_random_uuid(), $1, 1)"
    last = datetime(2026, 3, 1, tzinfo=UTC) - timedelta(microseconds=1)
    for at in (datetime(2025, 11, 1, tzinfo=UTC), last):
        await months.database.execute(insert, at)
    assert await months.database.fetch("select from quotabell_parts.usage_samples_202602")


async def test_a_month_is_dropped_when_its_last_day_is_old_enough(months: Partitions) -> None:
    await months.keep(date(2025, 11, 1), date(2026, 1, 1))

    assert await months.drop_before(date(2025, 11, 30)) == []
    assert await months.drop_before(date(2025, 12, 1)) == ["usage_samples_202511"]
    assert (await attached(months)).keys() == {"usage_samples_202512", "usage_samples_202601"}


async def test_a_drop_that_was_cut_off_is_finished(months: Partitions) -> None:
    """Once while it waited to detach, once between detaching and dropping."""
    await months.keep(date(2025, 10, 1), date(2026, 1, 1))
    detach = "alter table usage_samples detach partition quotabell_parts.usage_samples_"
    async with connected(months.database._dsn) as reader, months.database.connection() as other:
        reading = reader.transaction()
        await reading.start()
        await reader.fetch("select from usage_samples")
        await other.execute("set statement_timeout = '100ms'")
        with pytest.raises(asyncpg.QueryCanceledError):
            await other.execute(f"{detach}202510 concurrently")
        await other.execute("reset statement_timeout")
        await reading.rollback()
        await other.execute(f"{detach}202511")

    dropped = await months.drop_before(date(2025, 12, 1))

    assert dropped == ["usage_samples_202510", "usage_samples_202511"]
    assert await months.database.fetch("select to_regclass('quotabell_parts.usage_samples_202511')")
    assert (await attached(months)).keys() == {"usage_samples_202512", "usage_samples_202601"}


async def test_a_detached_month_that_is_kept_again_comes_back(months: Partitions) -> None:
    await months.keep(date(2026, 1, 1), date(2026, 1, 1))
    await months.database.execute(
        "alter table usage_samples detach partition quotabell_parts.usage_samples_202601"
    )

    assert await months.keep(date(2026, 1, 1), date(2026, 1, 1)) == 1
    assert "usage_samples_202601" in await attached(months)


async def test_partitions_are_kept_from_the_retention_to_three_days_ahead() -> None:
    now = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)

    assert days_to_keep(now, timedelta(days=90)) == (date(2026, 9, 1), date(2026, 12, 3))
