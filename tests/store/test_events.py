"""Usage events in the database: each counted once, sums that agree, days that come and go."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quotabell import log
from quotabell.domain.events import KINDS, Outcome, UsageEvent
from quotabell.store.database import Database
from quotabell.store.events import EventStore

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
ACCEPTED, DUPLICATE, CORRECTED = Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.CORRECTED


def event(id: str | None = "a", *, output: int = 10, **more: Any) -> UsageEvent:
    values: dict[str, Any] = {
        "source": "apps/",
        "time": NOON,
        "provider": "openai",
        "model": "gpt-5",
        "user_id": "alice",
        "input": 100,
        "cache_read": 0,
        "cache_write": 0,
        "reasoning": 0,
        "other": 0,
        "cost_usd": None,
    } | more
    return UsageEvent(id=id, output=output, **values)


@contextlib.asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[EventStore]:
    database = Database(
        dsn, pool_size=4, prepared_statements=True, log=log.configure("warning").get_logger()
    )
    await database.open()
    try:
        yield EventStore(database)
    finally:
        await database.close()


async def sums(store: EventStore) -> dict[str, tuple[int, ...]]:
    """(kinds…, requests) by user from the events, checked against the running sums."""
    columns = ", ".join(f"sum({kind})::bigint" for kind in KINDS)
    found = []
    for table, requests in (("usage_events", "count(*)"), ("token_totals", "sum(requests)")):
        rows = await store.database.fetch(
            f"select user_id, {columns}, {requests}::bigint from {table} group by user_id"
        )
        found.append({row[0]: tuple(row)[1:] for row in rows})
    assert found[0] == found[1]
    return found[0]


async def test_a_repeat_counts_once_and_a_larger_one_corrects(any_dsn):
    async with opened(any_dsn) as store:
        first = await store.report([event(output=10)])
        again = await store.report([event(output=10)])
        smaller = await store.report([event(output=4)])
        larger = await store.report([event(output=25)])

        receipts = [r for counted in (first, again, smaller, larger) for r in counted.receipts]
        assert receipts == [ACCEPTED, DUPLICATE, DUPLICATE, CORRECTED]
        assert await sums(store) == {"alice": (100, 0, 0, 25, 0, 0, 1)}


async def test_the_first_report_decides_whose_it_is_and_the_largest_how_much(any_dsn):
    """Two libraries report one call differently, or an alias changes in between."""
    async with opened(any_dsn) as store:
        await store.report([event(output=10)])
        await store.report([event(output=90, user_id="bob", model="gpt-5-mini")])

        assert await sums(store) == {"alice": (100, 0, 0, 90, 0, 0, 1)}


async def test_what_differs_in_sender_source_or_id_is_another_event(any_dsn):
    async with opened(any_dsn) as store:
        batch = [event("a"), event("b"), event("a", source="jwt:x/"), event("a", source="apps/s")]

        assert (await store.report(batch)).receipts == [ACCEPTED] * 4


async def test_without_an_id_every_report_counts(any_dsn):
    async with opened(any_dsn) as store:
        await store.report([event(None), event(None, time=None)])
        await store.report([event(None)])

        assert (await sums(store))["alice"][-1] == 3


@pytest.mark.parametrize("first_before", [True, False])
async def test_two_reports_around_midnight_are_one_event(any_dsn, first_before):
    midnight = NOON.replace(hour=0)
    times = [midnight - timedelta(milliseconds=100), midnight + timedelta(milliseconds=100)]
    if not first_before:
        times.reverse()
    async with opened(any_dsn) as store:
        await store.report([event(time=times[0])])
        later = await store.report([event(time=times[1], output=30)])

        assert later.receipts == [CORRECTED]
        assert await sums(store) == {"alice": (100, 0, 0, 30, 0, 0, 1)}


async def test_replicas_with_the_halves_of_one_call_at_midnight_count_it_once(any_dsn):
    midnight = NOON.replace(hour=0)
    async with opened(any_dsn) as one, opened(any_dsn) as other:
        for number in range(20):
            await asyncio.gather(
                one.report([event(str(number), time=midnight - timedelta(seconds=1))]),
                other.report([event(str(number), time=midnight + timedelta(seconds=1))]),
            )

        assert (await sums(one))["alice"][-1] == 20


async def test_a_correction_between_kinds_lowers_no_counter(any_dsn):
    async with opened(any_dsn) as store:
        before = (await store.report([event(input=900, output=10)])).totals[0]
        after = (await store.report([event(input=100, cache_read=800, output=20)])).totals[0]

        assert (before.kinds.input, after.kinds.input) == (900, 900)
        assert after.kinds.cache_read == 800
        assert await sums(store) == {"alice": (100, 800, 0, 20, 0, 0, 1)}


async def test_costs_are_exact_and_corrected_too(any_dsn):
    async with opened(any_dsn) as store:
        await store.report([event(cost_usd=Decimal("0.1")), event("b", cost_usd=Decimal("0.2"))])
        counted = await store.report([event(output=20, cost_usd=Decimal("0.15"))])

        assert counted.totals[0].cost_usd == Decimal("0.35")


async def test_totals_hold_more_than_a_bigint(any_dsn):
    async with opened(any_dsn) as store:
        huge = {"input": 2**63 - 11, "output": 10}
        counted = await store.report([event("a", **huge), event("b", **huge)])

        assert counted.totals[0].kinds.input == 2 * (2**63 - 11)


async def test_a_missing_day_is_made_when_it_is_needed(any_dsn):
    async with opened(any_dsn) as store:
        assert await store.database.fetch("select from pg_inherits limit 1") == []

        assert (await store.report([event()])).receipts == [ACCEPTED]
        assert await store.days.keep(NOON.date(), NOON.date()) == 0


async def test_days_are_dropped_while_events_arrive(any_dsn):
    async with opened(any_dsn) as store:
        await store.days.keep(NOON.date() - timedelta(days=40), NOON.date() + timedelta(days=2))
        stop = asyncio.Event()
        longest = 0.0
        reported = 0

        async def report() -> None:
            nonlocal longest, reported
            clock = asyncio.get_running_loop().time
            while not stop.is_set():
                started = clock()
                await store.report([event(None) for _ in range(20)])
                longest = max(longest, clock() - started)
                reported += 20

        writing = asyncio.create_task(report())
        dropped = await store.days.drop_before(NOON.date() - timedelta(days=5))
        stop.set()
        await writing

        assert len(dropped) == 35
        assert (await sums(store))["alice"][-1] == reported
        assert longest < 2.0


async def test_concurrent_replicas_with_the_same_events_count_each_once(any_dsn):
    async with opened(any_dsn) as one, opened(any_dsn) as other:
        batches = [[event(str(n), output=n) for n in range(start, start + 60)] for start in (0, 30)]
        await asyncio.gather(
            *(store.report(batch) for store in (one, other) for batch in (*batches, *batches))
        )

        assert (await sums(one))["alice"] == (9000, 0, 0, sum(range(90)), 0, 0, 90)


_reports = st.lists(
    st.builds(
        event,
        st.sampled_from(["a", "b", "c", None]),
        output=st.integers(0, 50),
        input=st.integers(0, 50),
        reasoning=st.integers(0, 5),
        user_id=st.sampled_from(["alice", "bob"]),
        model=st.sampled_from(["gpt-5", "o9"]),
        time=st.sampled_from(
            [NOON, NOON.replace(hour=0) - timedelta(seconds=1), NOON.replace(hour=0)]
        ),
    ),
    min_size=1,
    max_size=12,
)


async def test_batches_in_any_order_leave_the_same_sums_and_never_lower_a_counter(dsn):
    async with opened(dsn) as store:
        await store.days.keep(NOON.date() - timedelta(days=2), NOON.date())
        loop = asyncio.get_running_loop()

        async def check(batches: list[list[UsageEvent]]) -> None:
            await store.database.execute("truncate usage_events, token_totals")
            shown: dict[tuple[str, ...], tuple[int, ...]] = {}
            for batch in batches:
                for total in (await store.report(batch)).totals:
                    key = (total.user_id, total.provider, total.model)
                    assert all(
                        new >= old
                        for new, old in zip(total.kinds, shown.get(key, total.kinds), strict=True)
                    )
                    shown[key] = total.kinds
            await sums(store)

        @settings(max_examples=60)
        @given(st.lists(_reports, min_size=1, max_size=5))
        def run(batches: list[list[UsageEvent]]) -> None:
            asyncio.run_coroutine_threadsafe(check(batches), loop).result(30)

        await asyncio.to_thread(run)
