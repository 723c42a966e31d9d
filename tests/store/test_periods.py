"""Closed periods leave the table of the present ones, and are kept apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from quotabell.store.periods import PeriodStore
from tests.store.test_events import event
from tests.store.test_quotas import DAILY, Replica, replica, today

OLDEST = datetime.now(UTC) - timedelta(days=100)


def days_ago(days: int, **more: Any) -> Any:
    return event(more.pop("id", None), time=datetime.now(UTC) - timedelta(days=days), **more)


async def archived(it: Replica) -> list[tuple[int, int]]:
    """How much was used how many periods ago, of what was moved."""
    rows = await it.database.fetch(
        "select tokens_used, extract(day from now() - period_start)::integer as ago "
        "from usage_periods order by 2"
    )
    return [(row["tokens_used"], row["ago"]) for row in rows]


async def prepared(it: Replica) -> PeriodStore:
    store = PeriodStore(it.database)
    now = datetime.now(UTC)
    await store.months.keep((now - timedelta(days=100)).date(), now.date())
    await it.configure(DAILY)
    await it.follow()
    return store


async def test_all_but_the_open_and_the_last_period_are_moved(any_dsn):
    async with replica(any_dsn) as it:
        store = await prepared(it)
        await it.report(today(), *(days_ago(n, input=n, output=0) for n in range(1, 5)))

        assert [await store.archive(2, OLDEST), await store.archive(2, OLDEST)] == [2, 1]
        assert await archived(it) == [(2, 2), (3, 3), (4, 4)]
        assert [row[-1] for row in await it.states()] == [1, 110]


async def test_late_events_and_corrections_reach_what_was_moved(any_dsn):
    async with replica(any_dsn) as it:
        store = await prepared(it)
        await it.configure(DAILY | {"weights": {"cache_read": 0}})
        await it.follow()
        await it.report(days_ago(3, id="a", input=500, output=0), days_ago(3, input=30, output=0))
        await store.archive(10, OLDEST)
        await it.report(days_ago(3, input=7, output=0))
        await it.report(days_ago(3, id="a", input=100, cache_read=900, output=0))
        await store.archive(10, OLDEST)

        assert await archived(it) == [(100 + 30 + 7, 3)]
        assert await it.states() == []


async def test_what_is_older_than_its_retention_is_dropped(any_dsn):
    async with replica(any_dsn) as it:
        store = await prepared(it)
        await it.report(days_ago(3), days_ago(5))
        await store.archive(10, datetime.now(UTC) - timedelta(days=4, hours=12))

        assert await archived(it) == [(110, 3)]
        assert await it.states() == []


async def test_a_state_whose_alert_has_yet_to_end_waits_for_that(any_dsn):
    async with replica(any_dsn) as it:
        store = await prepared(it)
        await it.report(days_ago(3))
        await it.database.execute(
            "insert into alerts (state_id, quota, provider, model, level, tokens_used) "
            "select id, quota, provider, model, 75, 1 from token_usage"
        )
        assert await store.archive(10, OLDEST) == 0

        await it.database.execute("update alerts set status = 'resolved'")
        assert await store.archive(10, OLDEST) == 1


async def test_what_providers_report_stays(any_dsn):
    async with replica(any_dsn) as it:
        store = await prepared(it)
        await it.database.execute(
            "insert into token_usage (provider, model, tokens_used, period_end) "
            "values ('openai', 'gpt-5', 1, now() - interval '1 year')"
        )

        assert await store.archive(10, OLDEST) == 0


async def test_closed_states_of_a_removed_quota_are_moved_at_once(any_dsn):
    async with replica(any_dsn) as it:
        store = await prepared(it)
        await it.report(days_ago(1))
        await it.configure()
        await it.follow()

        assert await store.archive(10, OLDEST) == 1
        assert await archived(it) == [(110, 1)]


async def test_what_was_used_long_ago_is_no_sign_of_how_fast_it_is_used_now(any_dsn):
    async with replica(any_dsn) as it:
        await it.configure(DAILY | {"window": "month", "per": ["user"]})
        ago = datetime.now(UTC) - timedelta(minutes=11)
        counted = await it.events.report([event(None, time=ago), today(user_id="bob")])

        late = {state.user_id for state in counted.states if state.id in counted.late}
        assert late == {"alice"}


async def test_counting_anew_measures_the_burn_anew(any_dsn):
    async with replica(any_dsn) as it:
        await it.configure(DAILY)
        await it.follow()
        await it.report(today())
        await it.database.execute(
            "insert into usage_burn (state_id, sampled_at, used, burn) "
            "select id, now(), 1, 5 from token_usage"
        )
        await it.configure(DAILY | {"limit": 2_000})
        await it.follow()
        assert [tuple(r) for r in await it.database.fetch("select burn from usage_burn")] == [(5,)]

        await it.configure(DAILY | {"weights": {"input": 2}})
        await it.follow()
        assert [tuple(r) for r in await it.database.fetch("select burn from usage_burn")] == [
            (None,)
        ]
