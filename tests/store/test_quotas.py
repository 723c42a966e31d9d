"""Usage events held against quotas, and quotas that change while events come in."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter as Tally
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quotabell import log
from quotabell.config import Quota
from quotabell.domain.events import Outcome, UsageEvent
from quotabell.metrics import Metrics
from quotabell.service.counting import Counting
from quotabell.store.audit import audit
from quotabell.store.database import Database
from quotabell.store.delivery import DeliveryStore
from quotabell.store.events import EventStore
from quotabell.store.quotas import QuotaStore
from tests.store.test_events import event, sums

DAILY = {"name": "daily", "limit": 1_000, "window": "day"}
LOG = log.configure("error").get_logger()


@dataclass(slots=True)
class Replica:
    """A daemon's way of counting, without the daemon."""

    database: Database
    events: EventStore
    quotas: QuotaStore
    counting: Counting

    async def configure(self, *sections: dict[str, Any]) -> None:
        await self.counting.put([Quota.model_validate(section) for section in sections])

    async def follow(self) -> None:
        """Let states follow their quotas to the end."""
        while await self.counting.follow():
            pass

    async def report(self, *batch: UsageEvent) -> list[Outcome]:
        return (await self.events.report(batch)).receipts

    async def states(self, columns: str = "user_id, provider, model, tokens_used") -> list[Any]:
        rows = await self.database.fetch(
            f"select {columns} from token_usage order by quota, user_id, provider, model, "
            "period_start"
        )
        return [tuple(row) for row in rows]

    async def found(self) -> None:
        """Once all is counted, every open state is what its events add up to."""
        await self.follow()
        result = await audit(self.database)
        assert (result.differences, result.under_way) == ([], [])


@contextlib.asynccontextmanager
async def replica(dsn: str) -> AsyncIterator[Replica]:
    database = Database(dsn, pool_size=4, prepared_statements=True, log=LOG)
    await database.open()
    store = QuotaStore(database)
    try:
        yield Replica(database, EventStore(database), store, Counting(store, Metrics(), LOG))
    finally:
        await database.close()


def today(**more: Any) -> UsageEvent:
    """An event of the last second: 110 tokens of alice's."""
    return event(more.pop("id", None), time=datetime.now(UTC) - timedelta(seconds=1), **more)


async def test_an_event_counts_in_every_quota_that_it_matches(any_dsn):
    async with replica(any_dsn) as it:
        await it.configure(
            DAILY | {"name": "a-all"},
            DAILY
            | {
                "name": "b-users",
                "per": ["user"],
                "overrides": [{"match": {"user": "alice"}, "limit": 5_000}],
            },
            DAILY | {"name": "c-claude", "match": {"provider": "anthropic"}},
            DAILY | {"name": "d-openai", "match": {"provider": "openai"}, "per": ["model"]},
        )
        await it.report(today(), today(user_id="bob", model="o4"), today(user_id=""))

        assert await it.states("quota, user_id, provider, model, tokens_used, token_limit") == [
            ("a-all", "", "*", "*", 330, 1_000),
            ("b-users", "", "*", "*", 110, 1_000),
            ("b-users", "alice", "*", "*", 110, 5_000),
            ("b-users", "bob", "*", "*", 110, 1_000),
            ("d-openai", "", "openai", "gpt-5", 220, 1_000),
            ("d-openai", "", "openai", "o4", 110, 1_000),
        ]
        await it.found()


async def test_kinds_and_requests_weigh_what_the_quota_says(any_dsn):
    async with replica(any_dsn) as it:
        weights = {"cache_read": 0.1, "output": 5, "request": 3}
        await it.configure(DAILY | {"weights": weights})
        await it.report(today(input=100, cache_read=55, output=2))  # 100 + 5.5 + 10 + 3, rounded

        assert await it.states("tokens_used") == [(119,)]


async def test_a_correction_adds_the_difference_of_what_it_weighs(any_dsn):
    async with replica(any_dsn) as it:
        await it.configure(DAILY | {"weights": {"cache_read": 0.1}})
        await it.report(today(id="a", input=1_000, output=0), today(input=50, output=0))
        receipts = await it.report(
            event("a", time=datetime.now(UTC), input=200, cache_read=900, output=0)
        )

        assert receipts == [Outcome.CORRECTED]
        assert await it.states("tokens_used") == [(50 + 200 + 90,)]
        await it.found()


async def test_late_events_count_in_their_own_period_and_ring_for_none_that_is_over(any_dsn):
    async with replica(any_dsn) as it:
        await it.configure(DAILY)
        long_ago = datetime.now(UTC) - timedelta(days=3)
        await it.report(today(), event(None, time=long_ago, output=5_000))

        assert await it.states("tokens_used, period_end > now()") == [(5_100, False), (110, True)]
        assert await it.database.fetch("select from alerts") == []


async def test_a_quota_rings_with_the_event_that_crosses_its_own_threshold(any_dsn):
    async with replica(any_dsn) as it:
        await it.configure(DAILY | {"thresholds": [10, 50]}, DAILY | {"name": "other"})
        await it.follow()
        await it.report(today())
        await it.report(today(output=500))

        rows = await it.database.fetch("select quota, level, seq from alerts")
        assert [tuple(row) for row in rows] == [("daily", 50.0, 2)]


async def test_a_full_counter_stays_full_and_refuses_no_report(any_dsn):
    async with replica(any_dsn) as it:
        await it.configure(DAILY | {"weights": {"input": 1000}})
        for _ in range(2):
            assert await it.report(today(input=2**62, output=0)) == [Outcome.ACCEPTED]

        assert await it.states("tokens_used") == [(2**63 - 1,)]


@pytest.mark.parametrize(
    ("notify", "told"),
    [
        (None, ["", "alice"]),
        (["owner"], ["alice"]),
        (["operators"], [""]),
        (["owner", "everyone"], ["", "alice", "bob"]),
        (["everyone"], ["", "alice", "bob"]),
        ([], []),
    ],
)
async def test_a_quota_says_who_is_told(dsn, notify, told):
    async with replica(dsn) as it:
        for user in ("", "alice", "bob"):
            await it.database.execute(
                "insert into push_subscriptions (user_id, subscription) values ($1, $2::jsonb)",
                user,
                f'{{"endpoint": "https://push.example/{user}"}}',
            )
        await it.configure(
            DAILY | {"per": ["user"]} | ({} if notify is None else {"notify": notify})
        )
        await it.follow()
        await it.report(today(input=990))
        deliveries = DeliveryStore(it.database)
        await deliveries.enqueue(10)
        claimed, _ = await deliveries.claim(10, 10, timedelta(seconds=30), Tally(), "worker")

        rows = await it.database.fetch("select id::text, user_id from push_subscriptions")
        users = {row["id"]: row["user_id"] for row in rows}
        assert sorted(users[delivery.target] for delivery in claimed) == told
        assert all(delivery.subscription for delivery in claimed)
        history = await it.database.fetch("select status from notification_history")
        assert [row["status"] for row in history] == ["pending" if told else "suppressed"]


# --- changes of quotas ---------------------------------------------------------------------


async def test_a_quota_that_is_added_counts_what_was_used_before_in_its_open_period(any_dsn):
    async with replica(any_dsn) as it:
        await it.report(today(), event(None, time=datetime.now(UTC) - timedelta(days=2)))
        await it.configure(DAILY)
        await it.report(today())
        await it.follow()

        assert await it.states("tokens_used") == [(220,)]
        await it.found()


async def test_another_definition_is_counted_anew_and_the_old_counters_go(any_dsn):
    async with replica(any_dsn) as it:
        await it.configure(DAILY | {"per": ["user"]})
        await it.report(today(), today(user_id="bob"))
        await it.configure(DAILY | {"per": ["model"], "weights": {"input": 0}})
        await it.follow()

        assert await it.states() == [("", "*", "gpt-5", 20)]
        await it.found()


async def test_a_new_limit_reaches_counters_that_nobody_reports_to(any_dsn):
    async with replica(any_dsn) as it:
        await it.configure(DAILY | {"per": ["user"]})
        await it.follow()
        await it.report(today(), today(user_id="bob"))
        override = {"match": {"user": "bob"}, "limit": 120}
        await it.configure(DAILY | {"per": ["user"], "overrides": [override]})
        await it.follow()

        assert await it.states("user_id, tokens_used, token_limit") == [
            ("alice", 110, 1_000),
            ("bob", 110, 120),
        ]
        [alert] = await it.database.fetch("select user_id, level, seeded from alerts")
        assert tuple(alert) == ("bob", 90.0, False)


async def test_what_counting_anew_finds_is_told_to_operators_in_one_message(any_dsn):
    async with replica(any_dsn) as it:
        await it.report(*(today(user_id=f"user-{n}", input=800 + n) for n in range(7)))
        await it.configure(DAILY | {"per": ["user"]})
        await it.follow()

        history = await it.database.fetch(
            "select user_id, status, title, body from notification_history"
        )
        quiet = sorted(row["user_id"] for row in history if row["status"] == "suppressed")
        assert quiet == [f"user-{n}" for n in range(7)]
        [digest] = [row for row in history if row["status"] == "pending"]
        assert digest["title"] == "daily: 7 counters are above a threshold"
        assert "user-6 81 %" in digest["body"]
        assert await it.database.fetch("select from alerts where not seeded") == []
        await it.report(today(user_id="user-0", input=200))

        rising = await it.database.fetch(
            "select user_id, level from notification_history "
            "where status = 'pending' and level = 100"
        )
        assert [tuple(row) for row in rising] == [("user-0", 100.0)]


async def test_while_a_quota_is_counted_anew_its_alerts_neither_end_nor_ring(any_dsn):
    async with replica(any_dsn) as it:
        await it.configure(DAILY)
        await it.follow()
        await it.report(today(input=900, output=0))
        await it.configure(DAILY | {"weights": {"output": 2}})
        await it.report(today(input=10, output=0))
        await it.database.fetch("select quotabell_ring(id) from token_usage")
        assert [tuple(r) for r in await it.database.fetch("select level, status from alerts")] == [
            (90.0, "firing")
        ]
        await it.follow()

        rows = await it.database.fetch("select level, status, seq from alerts")
        assert [tuple(row) for row in rows] == [(90.0, "firing", 1)]
        assert await it.states("tokens_used") == [(910,)]


async def test_a_quota_that_is_removed_takes_its_open_counters_along(any_dsn):
    async with replica(any_dsn) as it:
        await it.configure(DAILY, DAILY | {"name": "other"})
        await it.follow()
        await it.report(today())
        await it.configure(DAILY | {"name": "other"})
        await it.report(today())
        await it.follow()

        assert await it.states("quota, tokens_used") == [("other", 220)]
        assert [q["name"] for q in await it.database.fetch("select name from quotas")] == ["other"]
        await it.configure(DAILY, DAILY | {"name": "other"})
        await it.follow()
        assert await it.states("quota, tokens_used") == [("daily", 220), ("other", 220)]


async def test_the_same_quotas_once_more_change_nothing(any_dsn):
    async with replica(any_dsn) as it:
        await it.configure(DAILY, DAILY | {"name": "other"})
        await it.follow()
        before = await it.database.fetch("select generation from settings")
        await it.configure(DAILY | {"name": "other", "per": []}, DAILY)

        assert await it.database.fetch("select generation from settings") == before
        assert await it.quotas.at_work() == []


async def test_another_replica_follows_a_change_with_its_next_event(any_dsn):
    async with replica(any_dsn) as one, replica(any_dsn) as other:
        await one.configure(DAILY)
        await other.report(today())
        await one.configure(DAILY | {"weights": {"input": 2}})
        await other.report(today())
        await one.follow()

        assert await one.states("tokens_used") == [(420,)]
        await other.found()


# --- periods -------------------------------------------------------------------------------


async def test_who_used_something_in_the_last_period_is_shown_with_0_in_this_one(any_dsn):
    async with replica(any_dsn) as it:
        await it.configure(DAILY | {"per": ["user"]})
        yesterday = datetime.now(UTC) - timedelta(days=1)
        await it.report(
            event(None, time=yesterday),
            event(None, time=yesterday, user_id="bob"),
            event(None, time=yesterday - timedelta(days=1), user_id="carol"),
            today(user_id="bob"),
        )
        rows = await it.database.fetch(
            "select user_id, tokens_used, percentage, period_end - now() < interval '1 day' "
            "from current_usage order by user_id"
        )

        assert [tuple(row) for row in rows] == [("alice", 0, 0.0, True), ("bob", 110, 11.0, True)]


# --- in any order --------------------------------------------------------------------------

SHAPES = [
    DAILY,
    DAILY | {"limit": 500},
    DAILY | {"per": ["user"]},
    DAILY | {"window": "hour", "weights": {"cache_read": 0.1, "request": 7}},
    DAILY | {"window": "month", "match": {"model": "gpt-*"}, "per": ["model"]},
    DAILY | {"window": "5h", "match": {"user": ["alice", "b*"]}, "weights": {"input": 0.5}},
]
EVENTS = st.builds(
    event,
    st.sampled_from([None, "a", "b", "c"]),
    time=st.integers(0, 30).map(lambda h: datetime.now(UTC) - timedelta(hours=h / 3)),
    user_id=st.sampled_from(["alice", "bob", ""]),
    model=st.sampled_from(["gpt-5", "o4"]),
    input=st.integers(0, 99),
    cache_read=st.integers(0, 99),
    output=st.integers(0, 99),
)
STEPS = st.one_of(
    st.lists(EVENTS, min_size=1, max_size=5),
    st.lists(st.sampled_from(SHAPES), max_size=3)
    .map(lambda shapes: [s | {"name": f"q{n}"} for n, s in enumerate(shapes)])
    .map(tuple),
    st.integers(1, 4),
)


@pytest.mark.parametrize("batch", [1, 3])
async def test_open_states_are_what_their_events_weigh_whatever_happened(dsn, batch):
    """Events of any age and order, repeats, corrections and changes of quotas in between. What is
    summed up for ever is what the events are, too."""
    async with replica(dsn) as it:

        async def work(most: int) -> None:
            for _ in range(most):
                for waiting in await it.quotas.at_work():
                    if waiting.phase == "recount":
                        await it.quotas.recount(waiting.quota, batch)
                    else:
                        await it.quotas.settle(waiting.quota, batch)

        async def run(steps: list[Any]) -> None:
            await it.database.execute(
                "truncate usage_events, token_totals, token_usage, quotas, quota_periods"
            )
            for step in steps:
                if isinstance(step, tuple):
                    await it.configure(*step)
                elif isinstance(step, int):
                    await work(step)
                else:
                    await it.report(*step)
            await it.follow()
            await it.found()
            await sums(it.events)

        loop = asyncio.get_running_loop()

        @settings(max_examples=60, deadline=None)
        @given(st.lists(STEPS, max_size=12))
        def everything(steps: list[Any]) -> None:
            asyncio.run_coroutine_threadsafe(run(steps), loop).result(60)

        await asyncio.to_thread(everything)


async def test_an_explanation_comes_true(dsn):
    """What is said of a batch is what then becomes of it, also of repeats within it."""
    async with replica(dsn) as it:
        await it.configure(*(shape | {"name": f"q{n}"} for n, shape in enumerate(SHAPES)))
        await it.follow()

        async def used() -> Tally[tuple[Any, ...]]:
            columns = "user_id, quota, provider, model, period_start, tokens_used"
            return Tally({row[:-1]: row[-1] for row in await it.states(columns)})

        async def run(before: list[UsageEvent], batch: list[UsageEvent]) -> None:
            await it.database.execute("truncate usage_events, token_totals, token_usage")
            await it.report(*before)
            held = await used()
            explained = await it.events.explain(batch)
            assert await used() == held

            assert await it.report(*batch) == [said.outcome for said in explained]
            for charge in (charge for said in explained for charge in said.charges):
                counter = (charge.user_id, charge.quota, charge.provider, charge.model)
                held[*counter, charge.period_start] += charge.amount
            assert +(await used()) == +held

        loop = asyncio.get_running_loop()

        @settings(max_examples=40, deadline=None)
        @given(st.lists(EVENTS, min_size=1, max_size=5), st.lists(EVENTS, min_size=1, max_size=5))
        def everything(before: list[UsageEvent], batch: list[UsageEvent]) -> None:
            asyncio.run_coroutine_threadsafe(run(before, batch), loop).result(60)

        await asyncio.to_thread(everything)


async def test_quotas_change_while_replicas_count(dsn):
    async with replica(dsn) as one, replica(dsn) as other:
        now = datetime.now(UTC)

        async def report(it: Replica, seed: int) -> None:
            for n in range(60):
                batch = [
                    event(f"{k % 40}", time=now, output=(n * k * seed) % 97, user_id=f"u{k % 5}")
                    for k in range(n, n + 8)
                ]
                await it.report(*batch)

        async def change() -> None:
            for n in range(12):
                await one.configure(*(s | {"name": f"q{i}"} for i, s in enumerate(SHAPES[n % 4 :])))
                for work in await one.quotas.at_work():
                    await (
                        one.quotas.recount(work.quota, 3)
                        if work.phase == "recount"
                        else one.quotas.settle(work.quota, 2)
                    )

        await asyncio.gather(report(one, 3), report(other, 5), change())
        await one.follow()
        await one.found()
