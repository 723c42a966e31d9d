"""What lasts is told again, once an interval, by whoever evaluates."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from quotabell import log
from quotabell.store.database import Database
from quotabell.store.episodes import EpisodeStore
from quotabell.store.queries import load
from quotabell.store.repeats import RepeatStore
from quotabell.store.silences import SilenceStore
from tests.store.test_silences import HOUR, matchers
from tests.support.bell import Bell, bell


@pytest.fixture
async def usage(any_dsn: str) -> AsyncIterator[Bell]:
    async with bell(any_dsn) as usage:
        await usage.settings([80, 100, 150])
        await usage.execute("update settings set repeat_interval = '24 h'")
        yield usage


@pytest.fixture
async def database(any_dsn: str) -> AsyncIterator[Database]:
    logger = log.configure("error").get_logger()
    database = Database(any_dsn, pool_size=4, prepared_statements=True, log=logger)
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def store(database: Database) -> RepeatStore:
    return RepeatStore(database)


async def hours(usage: Bell, passed: float) -> None:
    await usage.execute("update alerts set told_at = told_at - $1 * interval '1 h'", passed)


async def test_an_alert_at_its_limit_is_told_once_an_interval(
    usage: Bell, store: RepeatStore
) -> None:
    state = await usage.report(100, user="alice")
    for day in range(1, 3):
        await hours(usage, 23.9)
        assert await store.repeat(10) == 0
        await usage.report(100 + day, user="alice")
        await hours(usage, 0.2)
        assert await asyncio.gather(*(store.repeat(10) for _ in range(4))) in ORDERS
        assert await store.repeat(10) == 0

    assert await usage.transitions(state) == ["100"] * 3
    rows = await usage.connection.fetch(
        "select seq, status, data -> 'repeat' as repeats, (data ->> 'tokensUsed')::int as used "
        "from notification_history order by seq"
    )
    assert [tuple(row) for row in rows] == [
        (1, "pending", None, 100), (2, "pending", "true", 101), (3, "pending", "true", 102),
    ]  # fmt: skip


ORDERS = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


async def test_below_the_limit_nothing_is_told_again_but_a_forecast_is(
    usage: Bell, store: RepeatStore
) -> None:
    state = await usage.report(90)
    assert await usage.level(state) == 80
    await hours(usage, 100)
    assert await store.repeat(10) == 0

    for kind in ("forecast", "stale"):
        await usage.execute(
            "insert into alerts (state_id, kind, quota, provider, model, level, tokens_used, "
            "token_limit) select state_id, $1, quota, provider, model, 100, 90, 100 from alerts "
            "where kind = 'threshold'",
            kind,
        )
    await hours(usage, 100)
    assert await store.repeat(10) == 1
    assert (
        await usage.value("select kind from notification_history order by created_at desc limit 1")
        == "forecast"
    )


async def test_what_is_acknowledged_is_told_again_when_it_got_worse(
    usage: Bell, store: RepeatStore, database: Database
) -> None:
    await usage.report(100)
    key = await usage.value("select id from alerts")
    await EpisodeStore(database).acknowledge(None, key, "ops")
    await hours(usage, 25)
    assert await store.repeat(10) == 0

    await usage.report(150)
    assert await store.repeat(10) == 0  # just told
    await hours(usage, 25)
    assert await store.repeat(10) == 1


async def test_what_ended_is_not_told_again(usage: Bell, store: RepeatStore) -> None:
    await usage.report(100)
    await usage.report(10)
    await hours(usage, 25)
    assert await store.repeat(10) == 0


async def test_what_its_period_outlived_is_not_told_again_but_its_end(
    usage: Bell, store: RepeatStore
) -> None:
    """In a storm of ends at midnight, repetitions come due before all ends are announced."""
    state = await usage.report(100)
    await hours(usage, 25)
    await usage.execute("update token_usage set period_end = now() - interval '1 ms'")

    assert await store.repeat(10) == 0
    await usage.ring_due()
    assert await usage.transitions(state) == ["100", "period over"]


async def test_what_is_silenced_is_not_told_again_and_after_it_once(
    usage: Bell, store: RepeatStore, database: Database
) -> None:
    silences = SilenceStore(database)
    await usage.report(100, user="alice")
    made = await silences.add(
        "", matchers(user="al*"), None, database.clock.now() + HOUR, "ops", "peace"
    )
    await hours(usage, 25)
    assert await store.repeat(10) == 0

    await silences.remove(None, made["id"])
    assert await silences.ring(10) + await store.repeat(10) == 1
    assert await silences.ring(10) + await store.repeat(10) == 0


async def test_none_is_none(usage: Bell, store: RepeatStore) -> None:
    await usage.execute("update settings set repeat_interval = '0'")
    await usage.report(100)
    await hours(usage, 10_000)
    assert await store.repeat(10) == 0


async def test_many_alerts_that_are_not_due_are_not_looked_at(usage: Bell) -> None:
    await usage.execute(
        "insert into alerts (state_id, quota, provider, model, level, tokens_used) "
        "select gen_random_uuid(), 'q', 'p', 'm', 100, 1 from generate_series(1, 20000)"
    )
    await usage.execute("analyze alerts")
    plan: Any = await (await usage.connection.prepare(load("repeats")["repeat"])).explain(500)
    assert "alerts_to_repeat" in str(plan)
