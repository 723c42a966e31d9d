"""Samples of usage: taken while it changes or burns, and the burn that follows from them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest_asyncio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quotabell import log
from quotabell.service.sample import Sampler
from quotabell.store.database import Database
from quotabell.store.samples import FIRST, Burn, Sample, SampleStore
from tests.support.bell import Bell, bell

MINUTE = timedelta(minutes=1)
WINDOW = 10 * MINUTE


@contextlib.asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[SampleStore]:
    database = Database(
        dsn, pool_size=4, prepared_statements=True, log=log.configure("error").get_logger()
    )
    await database.open()
    try:
        store = SampleStore(database)
        today = database.clock.now().date()
        await store.months.keep(today - timedelta(days=70), today + timedelta(days=1))
        yield store
    finally:
        await database.close()


@pytest_asyncio.fixture
async def store(any_dsn: str) -> AsyncIterator[SampleStore]:
    async with opened(any_dsn) as ready:
        yield ready


@pytest_asyncio.fixture
async def it(any_dsn: str) -> AsyncIterator[Bell]:
    async with bell(any_dsn) as ready:
        yield ready


async def take(store: SampleStore, limit: int = 1000) -> int:
    return (await store.take(WINDOW, pause=0.8 * MINUTE, after=FIRST, limit=limit)).samples


async def elapse(it: Bell, time: timedelta) -> None:
    """Move what has happened into the past."""
    await it.execute("update usage_samples set time = time - $1::interval", time)
    await it.execute(
        "update usage_burn set sampled_at = sampled_at - $1::interval,"
        " restarted_at = restarted_at - $1::interval",
        time,
    )


async def burn(store: SampleStore, state: UUID) -> float | None:
    found = (await store.burns(None, [state])).get(state)
    return found.rate if found else None


async def samples(store: SampleStore, state: UUID, points: int = 500) -> list[Sample]:
    now = store.database.clock.now()
    found = await store.history(None, state, now - timedelta(hours=1), now + MINUTE, points)
    assert found is not None
    return found


# --- when ----------------------------------------------------------------------------------


async def test_a_state_is_sampled_while_it_changes(store: SampleStore, it: Bell) -> None:
    state = await it.report(5)
    assert await take(store) == 1
    assert await take(store) == 0  # not again within the minute
    await it.report(6)
    assert await take(store) == 0
    await elapse(it, MINUTE)
    assert await take(store) == 1
    await elapse(it, MINUTE)
    assert await take(store) == 0  # at rest
    await it.report(6, 200)
    assert await take(store) == 1

    found = await samples(store, state)
    assert [(s.tokens_used, s.token_limit) for s in found] == [(5, 100), (6, 100), (6, 200)]


async def test_a_state_that_burns_is_sampled_until_it_does_not(
    store: SampleStore, it: Bell
) -> None:
    state = await it.report(0)
    await take(store)
    await elapse(it, WINDOW)
    await it.report(60)
    assert await take(store) == 1
    assert await burn(store, state) == 0.1
    taken = []
    for _ in range(15):
        await elapse(it, MINUTE)
        taken.append(await take(store))

    assert taken == [1] * 10 + [0] * 5
    assert await burn(store, state) == 0


async def test_closed_and_coming_periods_are_not_sampled(store: SampleStore, it: Bell) -> None:
    now = await it.value("select now()")
    await it.report(1, period_end=now - MINUTE)
    await it.report(1, model="ahead")
    await it.execute("update token_usage set period_start = $1 where model = 'ahead'", now + MINUTE)

    assert await take(store) == 0


async def test_replicas_that_sample_at_once_do_not_hinder_each_other(any_dsn: str) -> None:
    async with opened(any_dsn) as one, opened(any_dsn) as other, bell(any_dsn) as it:
        for n in range(200):
            await it.report(n, model=f"m{n}")

        await asyncio.gather(*(take(store) for store in (one, other) * 4))

        assert await it.value("select count(*) from usage_burn") == 200
        assert await it.value("select count(distinct state_id) from usage_samples") == 200


async def test_a_sampler_works_off_all_states_and_then_waits(store: SampleStore, it: Bell) -> None:
    await it.execute(
        "insert into token_usage (provider, model, tokens_used)"
        " select 'p', 'm' || n, n from generate_series(1, 12000) n"
    )
    sampler = Sampler(store, burn_window=WINDOW)

    while await sampler.sample():
        pass

    assert await it.value("select count(distinct state_id) from usage_samples") == 12000
    await elapse(it, WINDOW)
    assert not await sampler.sample()
    assert await it.value("select count(*) from usage_samples") == 12000


async def test_the_last_sample_of_a_removed_state_is_forgotten(
    store: SampleStore, it: Bell
) -> None:
    await it.report(1)
    await it.report(2, model="stays")
    await take(store)
    await it.execute("delete from token_usage where model = 'gpt-5'")

    assert await store.sweep() == 1
    assert await it.value("select array_agg(used) from usage_burn") == [2]


# --- how fast ------------------------------------------------------------------------------


def expected(used: Sequence[int]) -> float | None:
    """The burn after the last of these values, one a minute."""
    if len(used) <= 10:
        return None
    return max(0, used[-1] - used[-11]) / 600


_series = st.lists(
    st.one_of(st.just(0), st.just(0), st.integers(-50, 200)), min_size=1, max_size=40
)


async def test_the_burn_is_what_was_added_during_the_window(any_dsn: str) -> None:
    loop = asyncio.get_running_loop()
    known = 0
    async with opened(any_dsn) as store, bell(any_dsn) as it:

        async def check(steps: list[int]) -> None:
            nonlocal known
            await it.execute("truncate token_usage, usage_samples, usage_burn")
            used = [100]
            for step in steps:
                used.append(max(0, used[-1] + step))
                state = await it.report(used[-2])
                await take(store)
                assert await burn(store, state) == expected(used[:-1]), used
                known += expected(used[:-1]) not in (None, 0)
                await elapse(it, MINUTE)

        @settings(max_examples=25)
        @given(_series)
        @example([-1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0])
        @example([20] * 15)
        def examples(steps: list[int]) -> None:
            asyncio.run_coroutine_threadsafe(check(steps), loop).result()

        await asyncio.to_thread(examples)
    assert known


async def test_the_burn_of_a_period_begins_with_it(store: SampleStore, it: Bell) -> None:
    now = await it.value("select now()")
    state = await it.report(60, period_end=now + WINDOW)
    await it.execute("update token_usage set period_start = $1", now - 5 * MINUTE)
    await take(store)

    assert await burn(store, state) == 0.1


async def test_after_a_restart_the_burn_is_unknown_for_a_window(
    store: SampleStore, it: Bell
) -> None:
    state = await it.report(0)
    await take(store)
    await elapse(it, WINDOW)
    await it.report(6000)
    await take(store)
    assert await burn(store, state) == 10

    await store.restart([state, uuid4()])

    assert await burn(store, state) is None
    for minute in range(9):
        await elapse(it, MINUTE)
        await it.report(6001 + minute)
        await take(store)
        assert await burn(store, state) is None
    await elapse(it, 2 * MINUTE)
    await it.report(6061)
    await take(store)
    assert await burn(store, state) == 60 / 600


async def test_a_state_at_rest_is_known_to_be_after_a_restart(store: SampleStore, it: Bell) -> None:
    state = await it.report(5)
    await take(store)
    await elapse(it, WINDOW)
    await store.restart([state])
    taken = []
    for _ in range(13):
        await elapse(it, MINUTE)
        taken.append(await take(store))

    assert sum(taken) == 2
    assert await burn(store, state) == 0


async def test_a_burn_that_nobody_measures_any_more_is_unknown(
    store: SampleStore, it: Bell
) -> None:
    state = await it.report(0)
    await take(store)
    await elapse(it, WINDOW)
    await it.report(60)
    await take(store)
    at = await it.value("select sampled_at from usage_burn")

    assert await store.burns(None, [state]) == {state: Burn(0.1, at)}
    [shown] = [row async for rows in store.burning() for row in rows]
    assert (shown.id, shown.tokens_used, shown.burn) == (str(state), 60, 0.1)
    await elapse(it, 5 * MINUTE)
    assert await store.burns(None, [state]) == {}
    assert [row async for rows in store.burning() for row in rows] == []


# --- history -------------------------------------------------------------------------------


async def test_history_is_thinned_to_the_last_of_equal_parts(store: SampleStore, it: Bell) -> None:
    state = await it.report(1)
    await it.execute(
        "insert into usage_samples (state_id, time, used)"
        " select $1, now() - n * interval '1 minute', 1000 - n from generate_series(0, 1000) n",
        state,
    )
    now = await it.value("select date_trunc('minute', now())")

    for points in (1, 2, 7, 100, 1000):
        found = await store.history(None, state, now - 900 * MINUTE, now, points)
        assert found is not None
        assert len(found) == min(points, 900)
        width = 900 * MINUTE / points
        times = [sample.time for sample in found]
        assert times == sorted(times)
        assert found[-1].tokens_used == 999
        if width > 2 * MINUTE:
            for n, time in enumerate(times, 1):
                assert now - 900 * MINUTE + n * width - time <= MINUTE
    assert await store.history(None, uuid4(), now - WINDOW, now, 5) is None


async def test_nobody_sees_the_samples_of_another(store: SampleStore, it: Bell) -> None:
    state = await it.report(0, user="ada")
    await take(store)
    await elapse(it, WINDOW)
    await take(store)
    now = store.database.clock.now()

    assert await store.history("ada", state, now - 2 * WINDOW, now, 5)
    assert await store.history("bob", state, now - 2 * WINDOW, now, 5) is None
    assert await store.burns("ada", [state])
    assert await store.burns("bob", [state]) == {}
    async with store.database.acting_for("bob") as bob:
        assert await bob.fetch("select from usage_samples") == []
        assert await bob.fetch("select from usage_burn") == []
    async with store.database.acting_for("ada") as ada:
        assert await ada.fetch("select from usage_samples")
        assert await ada.fetch("select from usage_burn")
