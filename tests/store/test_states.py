"""Reading quota states: patterns as SQL, and parts of a list whose rows keep changing."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from uuid import UUID

import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from quotabell import log
from quotabell.domain.matching import Match, as_regex
from quotabell.store.database import Database
from quotabell.store.states import Part, Position, StateStore
from tests.support.bell import Bell, bell
from tests.support.postgres import connected, in_thread

SIGNS = st.text("ab*?[]!-^$(){}+|.\\\n äÄ:=", max_size=12)


@pytest_asyncio.fixture
async def store(any_dsn: str) -> AsyncIterator[StateStore]:
    database = Database(
        any_dsn, pool_size=2, prepared_statements=True, log=log.configure("error").get_logger()
    )
    await database.open()
    yield StateStore(database)
    await database.close()


@pytest_asyncio.fixture
async def it(any_dsn: str) -> AsyncIterator[Bell]:
    async with bell(any_dsn) as ready:
        yield ready


async def listed(
    store: StateStore, limit: int, after: Position | None = None, match: Match | None = None
) -> Part:
    return await store.listed(
        None, match or Match(), state="open", updated_after=None, after=after, limit=limit
    )


# --- patterns ------------------------------------------------------------------------------


def test_a_pattern_matches_in_sql_what_it_matches_elsewhere(any_dsn: str) -> None:
    cases: list[tuple[list[str], str]] = []

    @settings(max_examples=400)
    @given(st.lists(SIGNS, min_size=1, max_size=3), SIGNS)
    def collect(patterns: list[str], value: str) -> None:
        cases.append((patterns, value))

    collect()
    cases += [([f"*{value}"], value) for _, value in cases]

    async def ask() -> list[bool]:
        async with connected(any_dsn) as connection:
            return [
                await connection.fetchval("select $1::text ~ coalesce($2, '')", value, regex)
                for patterns, value in cases
                for regex in [as_regex(patterns)]
            ]

    expected = [Match(model=patterns).matches(model=value) for patterns, value in cases]
    assert in_thread(ask()) == expected
    assert 100 < sum(expected) < len(expected)


# --- parts ---------------------------------------------------------------------------------


async def test_parts_of_a_list_at_rest_are_the_list(store: StateStore, it: Bell) -> None:
    for n in range(23):
        await it.report(n % 7, None if n % 5 == 0 else 10, model=f"m{n}")
    whole = await listed(store, 100)
    assert whole.end is None
    percentages = [-1 if s.percentage is None else s.percentage for s in whole.states]
    assert percentages == sorted(percentages, reverse=True)

    for limit in (1, 4, 22, 23):
        parts, after = [], None
        while True:
            part = await listed(store, limit, after)
            assert len(part.states) <= limit
            parts += part.states
            if (after := part.end) is None:
                break
        assert [s.id for s in parts] == [s.id for s in whole.states]


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_changes_meanwhile_nothing_is_missed_and_what_rests_comes_once(
    store: StateStore, it: Bell, seed: int
) -> None:
    chance = random.Random(seed)
    states = {await it.report(chance.randrange(100), model=f"m{n}"): f"m{n}" for n in range(40)}
    changed: set[UUID] = set()
    seen: Counter[UUID] = Counter()
    after = None
    for _ in range(100):
        part = await listed(store, chance.choice([1, 3, 7]), after)
        seen.update(state.id for state in part.states)
        if (after := part.end) is None:
            break
        if not after.changed:
            for state in chance.sample(sorted(states), chance.randrange(4)):
                changed.add(await it.report(chance.randrange(100), model=states[state]))
    assert after is None
    assert seen.keys() == states.keys()
    assert {state for state in states if seen[state] > 1} <= changed
    assert max(seen.values()) <= 2
    assert changed


async def test_a_change_under_way_at_the_first_part_is_not_missed(
    store: StateStore, it: Bell, any_dsn: str
) -> None:
    low = await it.report(1, model="low")
    for n in range(5):
        await it.report(50 + n, model=f"m{n}")
    async with connected(any_dsn) as writer:
        changes = writer.transaction()
        await changes.start()
        await writer.execute("update token_usage set tokens_used = 99 where id = $1", low)
        first = await listed(store, 2)
        await changes.commit()

    second = await listed(store, 100, first.end)

    assert low in {state.id for state in second.states}


async def test_removing_ends_the_alert_and_says_so_once(store: StateStore, it: Bell) -> None:
    state, other = await it.report(95), await it.report(95, model="other")

    assert await store.remove(state)
    assert not await store.remove(state)

    assert await it.transitions(state) == ["90", "usage removed"]
    await it.evaluate()
    assert await it.transitions(state) == ["90", "usage removed"]
    assert await it.transitions(other) == ["90"]
