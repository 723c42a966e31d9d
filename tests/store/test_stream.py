"""Tables of any size are read whole for ``/metrics``, and no statement of it takes long."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import asyncpg
import pytest
import pytest_asyncio

from quotabell.errors import Unavailable
from quotabell.store import database as databases
from quotabell.store.database import Database
from quotabell.store.folds import FoldStore
from quotabell.store.usage import CurrentState, UsageStore
from tests.store.test_usage import connect
from tests.support.postgres import connected

STATES = 1_600
_FILL = """
insert into token_usage (user_id, provider, model, tokens_used, token_limit)
select 'u' || n, 'p', 'm', n, 100000 from generate_series(1, $1::integer) as n
"""
# Reading a row takes half a millisecond and more: as if there were hundreds of times as many.
_SLOW = """
create or replace view current_usage as
select id, user_id, quota, provider, model, unit, tokens_used, token_limit, percentage,
    0::bigint as tokens_remaining, period_start, period_end, reported_at, updated_at
from token_usage where pg_sleep(0.0005) is not null;
"""


@pytest_asyncio.fixture
async def hurried(dsn: str) -> AsyncIterator[Database]:
    """A database that lets no statement take as long as reading all does."""
    async with connected(dsn) as connection:
        await connection.execute(_FILL, STATES)
        await connection.execute(_SLOW)
    database = await connect(f"{dsn}{'&' if '?' in dsn else '?'}statement_timeout=700")
    yield database
    await database.close()


async def test_states_are_read_however_long_it_takes_by_statements_that_do_not(
    hurried: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "AT_A_TIME", 100)
    with pytest.raises(Unavailable, match="statement timeout"):
        await hurried.fetch("select * from current_usage")

    pages = [page async for page in UsageStore(hurried).current()]

    assert max(map(len, pages)) == 100
    states = [state for page in pages for state in page]
    assert sorted(state.tokens_used for state in states) == list(range(1, STATES + 1))
    assert isinstance(states[0], CurrentState)


@pytest.mark.parametrize("prepared", [True, False])
async def test_a_stream_is_of_one_moment_and_leaves_no_transaction_open_if_it_is_given_up(
    dsn: str, prepared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "AT_A_TIME", 2)
    database = await connect(dsn, prepared_statements=prepared)
    try:
        async with connected(dsn) as other:
            await other.execute(_FILL, 5)
            seen: list[str] = []
            async for page in UsageStore(database).current():
                seen += [state.user_id for state in page]
                await other.execute("delete from token_usage")
            assert sorted(seen) == ["u1", "u2", "u3", "u4", "u5"]

            await other.execute(_FILL, 5)
            async with contextlib.aclosing(UsageStore(database).current()) as pages:
                assert len(await anext(pages)) == 2
            # Its connection is free again, and knows nothing of the cursor.
            for _ in range(3):
                assert [len(page) async for page in UsageStore(database).current()] == [2, 2, 1]
    finally:
        await database.close()


async def test_of_more_users_than_fit_a_statement_those_who_came_first_are_named(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quotabell.store.folds._AT_A_TIME", 3)
    database = await connect(dsn)
    store = FoldStore(database)
    try:
        async with connected(dsn) as connection:
            await _came(connection, 8)
        users = {f"u{n}": 2 for n in range(1, 9)} | {"unknown": 2}

        assert await store.keep(0, users, 15) == 7
        assert await store.named() == {f"u{n}" for n in range(2, 9)}  # u8 came first
        assert await store.keep(0, users, 2) is None  # somebody has decided already
        assert await store.keep(1, {f"u{n}": 3 for n in range(1, 9)}, 12) == 4
        assert await store.named() == {"u8", "u7", "u6", "u5"}
    finally:
        await database.close()


async def _came(connection: asyncpg.Connection[asyncpg.Record], count: int) -> None:
    """The higher their numbers, the earlier."""
    await connection.execute(_FILL, count)
    await connection.execute(
        "update token_usage set created_at = now() - tokens_used * interval '1 hour'"
    )
