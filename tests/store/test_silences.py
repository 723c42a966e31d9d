"""Which silence holds for an alert, as SQL decides it."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from quotabell import log
from quotabell.domain.matching import KEYS, Match
from quotabell.store.database import Database
from quotabell.store.silences import BOUND, Matchers, SilenceStore, TooManySilences
from tests.support.postgres import connected

HOUR = timedelta(hours=1)


def matchers(**patterns: str) -> Matchers:
    given = {"userId" if key == "user" else key: text for key, text in patterns.items()}
    return Matchers(given, Match(**patterns))


@pytest.fixture
async def store(any_dsn: str) -> Any:
    database = Database(
        any_dsn, pool_size=4, prepared_statements=True, log=log.configure("error").get_logger()
    )
    await database.open()
    yield SilenceStore(database)
    await database.close()


async def holding(store: SilenceStore, **of: str) -> Any:
    values = [of.get(key, "") for key in KEYS]
    rows = await store.database.fetch("select quotabell_silence($1, $2, $3, $4, $5) id", *values)
    return rows[0]["id"]


async def test_sql_decides_as_the_one_matcher_does(store: SilenceStore) -> None:
    chance = random.Random(7)
    patterns = ["a", "a*", "?", "[ab]", "b?", ""]
    now = store.database.clock.now()
    silences = []
    for n in range(60):
        chosen = {
            key: chance.choice(patterns) for key in chance.sample(KEYS, chance.randrange(2, 6))
        }
        owner = chance.choice(["", "", "a", "b"])
        begin, end = sorted(chance.sample(range(-5, 6), 2))
        ends = now + end * HOUR + timedelta(seconds=n + 60)
        made = await store.add(
            owner, matchers(**chosen), now + begin * HOUR - HOUR / 2, ends, "ops", "r"
        )
        if begin * HOUR - HOUR / 2 <= timedelta(0) < ends - now:
            silences.append((ends, made["id"], owner, Match(**chosen)))
    found = 0
    for _ in range(400):
        of = {key: chance.choice(["a", "b", "ab", "ba", "", "c"]) for key in KEYS}
        fits = [s for s in silences if s[2] in ("", of["user"]) and s[3].matches(**of)]
        expected = max(fits)[1] if fits else None
        assert await holding(store, **of) == expected
        found += expected is not None
    assert 20 < found < 400


async def test_a_user_has_a_bounded_number_at_a_time(store: SilenceStore) -> None:
    now = store.database.clock.now()
    for _ in range(BOUND):
        await store.add("ada", matchers(), None, now + HOUR, "ada", "r")

    with pytest.raises(TooManySilences):
        await store.add("ada", matchers(), None, now + HOUR, "ada", "r")
    await store.add("bob", matchers(), None, now + HOUR, "bob", "r")
    await store.database.execute(
        "update silences set starts_at = now() - interval '2 h', ends_at = now() - interval '1 h'"
    )
    await store.add("ada", matchers(), None, now + HOUR, "ada", "r")
    assert await store.age(timedelta(minutes=30), 60) == 60
    assert await store.age(2 * HOUR, 1000) == 0


async def test_what_is_no_expression_cannot_be_stored(any_dsn: str) -> None:
    """It would keep every message from being sent."""
    async with connected(any_dsn) as connection:
        with pytest.raises(asyncpg.DataError):
            await connection.execute(
                "insert into silences (matchers, model, ends_at, author, reason)"
                " values ('{}', '[', now() + interval '1 h', 'psql', 'r')"
            )
