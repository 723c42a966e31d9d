"""Quotas in bad company: rows that somebody holds, clocks that turn, replicas that disagree."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from time import monotonic

import asyncpg
import pytest

from quotabell.errors import Busy
from quotabell.store.audit import audit
from tests.store.test_events import event
from tests.store.test_quotas import DAILY, replica, today
from tests.support.postgres import Database
from tests.support.waiting import eventually

BLOCKED = (
    "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
)
WRITERS_WAIT = 1.5  # seconds that reports wait for a row, and then are refused


@contextlib.asynccontextmanager
async def held(database: Database, sql: str) -> AsyncIterator[None]:
    """What a statement locks, held by somebody else."""
    connection = await asyncpg.connect(database.admin_dsn)
    try:
        async with connection.transaction():
            await connection.execute(sql)
            yield
    finally:
        await connection.close()


async def test_counting_again_lets_rows_go_before_reports_give_up_on_them(
    database: Database,
) -> None:
    async with replica(database.dsn) as it:
        users = [f"user-{n}" for n in range(5)]
        await it.report(*(today(user_id=user) for user in users))
        await it.configure(DAILY | {"per": ["user"]})
        await it.follow()
        await it.quotas.count_again()
        async with held(
            database, "select from token_usage where user_id = 'user-4' for no key update"
        ):
            begun = monotonic()
            with pytest.raises(Busy):
                await it.quotas.recount("daily", 100)
            assert monotonic() - begun < WRITERS_WAIT

        await it.found()
        assert [row[3] for row in await it.states()] == [110] * 5


async def test_settling_lets_rows_go_before_reports_give_up_on_them(database: Database) -> None:
    async with replica(database.dsn) as it:
        await it.configure(DAILY | {"per": ["user"]})
        await it.follow()
        await it.report(*(today(user_id=f"user-{n}") for n in range(5)))
        await it.configure(DAILY | {"per": ["user"], "limit": 2_000})
        for what in (
            "select from token_usage where user_id = 'user-4' for no key update",
            "lock table token_usage in share mode",
        ):
            async with held(database, what):
                begun = monotonic()
                with pytest.raises(Busy):
                    await it.quotas.settle("daily", 100)
                assert monotonic() - begun < WRITERS_WAIT

        await it.follow()
        assert set(await it.states("token_limit")) == {(2_000,)}


@pytest.mark.parametrize("removed", [False, True])
async def test_states_written_while_they_are_settled_follow_too(
    any_database: Database, removed: bool
) -> None:
    async with replica(any_database.dsn) as it:
        await it.configure(DAILY | {"per": ["user"]})
        await it.follow()
        await it.report(*(today(user_id=f"user-{n}") for n in range(5)))
        quotas = [] if removed else [DAILY | {"per": ["user"], "limit": 2_000}]
        await it.configure(*quotas)
        write = "update token_usage set tokens_used = 150 where user_id in ('user-1', 'user-3')"

        async with asyncio.TaskGroup() as group:
            async with held(any_database, write):
                settling = group.create_task(it.quotas.settle("daily", 100))
                await eventually(lambda: it.database.fetch(BLOCKED), every=0.01)
        assert settling.result()

        found = await it.states("token_limit, tokens_used")
        assert found == ([] if removed else [(2_000, 110 + 40 * (n in (1, 3))) for n in range(5)])


async def test_counting_again_waits_for_a_report_of_a_correction_and_goes_on(
    database: Database,
) -> None:
    """As corrections come all the time, it would else get on by one batch a round."""
    async with replica(database.dsn) as it:
        await it.report(today())
        await it.configure(DAILY)
        going_on = asyncio.Event()

        async def correction() -> None:
            async with held(database, "select from quotas for share"):
                going_on.set()
                await asyncio.sleep(0.2)

        correcting = asyncio.create_task(correction())
        await going_on.wait()
        assert await it.quotas.recount("daily", 100)
        await correcting


# --- periods -------------------------------------------------------------------------------


async def test_who_an_earlier_definition_counted_yesterday_is_not_shown_today(any_dsn):
    async with replica(any_dsn) as it:
        yesterday = datetime.now(UTC) - timedelta(days=1)
        await it.configure(DAILY | {"per": ["user"]})
        await it.follow()
        await it.report(event(None, time=yesterday), event(None, time=yesterday, user_id="bob"))
        # As if the quota had been there yesterday and the events had not been late.
        await it.database.execute("update token_usage set generation = 1")
        await it.configure(DAILY | {"per": ["model"]})
        await it.report(today())
        await it.follow()

        shown = "select user_id, model, tokens_used from current_usage"
        assert [tuple(row) for row in await it.database.fetch(shown)] == [("", "gpt-5", 110)]
        await it.quotas.count_again()
        await it.follow()
        assert [tuple(row) for row in await it.database.fetch(shown)] == [("", "gpt-5", 110)]


async def test_counters_that_end_before_they_are_settled_go_all_the_same(any_dsn):
    """An hour of an earlier definition ends while the quota waits to be settled."""
    async with replica(any_dsn) as it:
        await it.configure(DAILY | {"window": "hour", "per": ["user"]})
        await it.follow()
        await it.report(today())
        await it.configure(DAILY)
        await it.database.execute(
            "update token_usage set period_end = now() where generation < "
            "(select generation from quotas)"
        )
        await it.follow()

        assert await it.states("user_id, tokens_used") == [("", 110)]


async def test_periods_that_are_none_any_more_go(any_dsn):
    """Of an earlier window, written late by a replica that had read it; or of old zone data."""
    async with replica(any_dsn) as it:
        await it.configure(DAILY | {"per": ["user"]})
        right = await it.database.fetch("select * from quota_periods order by period_start")
        await it.database.execute(
            "insert into quota_periods select quota, period_start + interval '3 hours', "
            "period_end + interval '3 hours', continues from quota_periods"
        )
        await it.counting.keep_periods()

        again = await it.database.fetch("select * from quota_periods order by period_start")
        assert again == right


async def test_periods_follow_the_quotas_whoever_keeps_them_meanwhile(any_dsn):
    async with replica(any_dsn) as one, replica(any_dsn) as other:

        async def change() -> None:
            for n in range(15):
                await one.configure(DAILY | {"window": ("5h", "day", "7h")[n % 3]})

        async def keep() -> None:
            while not changing.done():
                await other.counting.keep_periods()

        changing = asyncio.create_task(change())
        await asyncio.gather(changing, keep())
        rows = await one.database.fetch(
            "select a.period_start, b.period_start as other from quota_periods a "
            "join quota_periods b using (quota) "
            "where a.period_start < b.period_start and b.period_start < a.period_end"
        )
        assert rows == []


# --- checks --------------------------------------------------------------------------------


async def test_a_check_does_not_complain_of_counters_that_are_about_to_go(any_dsn):
    async with replica(any_dsn) as it:
        await it.configure(DAILY | {"per": ["user"]}, DAILY | {"name": "other"})
        await it.report(today())
        await it.follow()
        await it.configure(DAILY | {"per": ["model"]})
        while await it.quotas.recount("daily", 100):
            pass

        found = await audit(it.database)
        assert (found.differences, found.states) == ([], 1)
        await it.database.execute("update token_usage set tokens_used = 7 where generation > 1")
        [difference] = (await audit(it.database)).differences
        assert (difference.stored, difference.counted) == (7, 110)
