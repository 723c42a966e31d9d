"""Quota states in the database, on the oldest and the newest server that are supported."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from quotabell import log
from quotabell.domain.usage import Snapshot
from quotabell.errors import Conflict, Refused
from quotabell.store.database import Database
from quotabell.store.usage import CurrentState, UsageStore


async def connect(dsn: str, **options: Any) -> Database:
    database = Database(
        dsn,
        pool_size=2,
        log=log.configure("error").get_logger(),
        **{"prepared_statements": True} | options,
    )
    await database.open()
    return database


@pytest_asyncio.fixture
async def store(any_dsn: str) -> AsyncIterator[UsageStore]:
    database = await connect(any_dsn)
    yield UsageStore(database)
    await database.close()


def item(
    used: int, *, limit: int | None = 100, model: str = "m", at: datetime | None = None
) -> Snapshot:
    return Snapshot("p", model, used, limit, "u", at)


async def row(store: UsageStore, model: str = "m") -> dict[str, Any]:
    (found,) = await store.database.fetch("select * from token_usage where model = $1", model)
    return dict(found)


async def current(store: UsageStore) -> list[CurrentState]:
    return [state async for states in store.current() for state in states]


def ago(seconds: float) -> datetime:
    return datetime.now(UTC) - timedelta(seconds=seconds)


async def test_a_batch_is_stored_and_answered(store: UsageStore):
    batch = [item(1, model="b"), item(2, model="a"), item(3, model="c", limit=None)]
    receipts, states = await store.report(batch)

    assert [(r.tokens_used, r.token_limit, r.percentage, r.applied) for r in receipts] == [
        (1, 100, 1.0, True),
        (2, 100, 2.0, True),
        (3, None, None, True),
    ]
    assert {s.model: (s.tokens_used, s.before) for s in states} == {
        "a": (2, None),
        "b": (1, None),
        "c": (3, None),
    }
    assert {r.reported_at for r in receipts} == {s.clock for s in states}
    found = {s.model: s for s in await current(store)}
    assert {m: (s.id, s.tokens_used, s.reported_at) for m, s in found.items()} == {
        s.model: (s.id, s.tokens_used, s.reported_at) for s in states
    }


async def test_a_quota_keeps_its_row(store: UsageStore):
    ids = {(await store.report([item(n)])).states[0].id for n in range(3)}

    assert len(ids) == 1
    assert (await row(store))["created_at"] < (await row(store))["updated_at"]


async def test_an_older_report_changes_nothing_that_counts(store: UsageStore):
    newer = ago(10)
    await store.report([item(5, at=newer)])
    (receipt,), (state,) = await store.report([item(9, limit=10, at=ago(20))])

    assert (receipt.tokens_used, receipt.token_limit, receipt.applied) == (5, 100, False)
    assert receipt.reported_at == state.reported_at == newer
    assert (await row(store))["tokens_used"] == 5
    (receipt,), _ = await store.report([item(6, at=newer)])
    assert (receipt.tokens_used, receipt.applied) == (6, True)


async def test_a_time_ahead_is_stored_as_now(store: UsageStore):
    (receipt,), (state,) = await store.report([item(5, at=ago(-100))])

    assert receipt.reported_at == state.reported_at == state.clock
    (receipt,), _ = await store.report([item(6)])
    assert receipt.applied


async def test_a_peak_within_a_batch_is_written_before_the_fall(store: UsageStore):
    await store.report([item(10)])
    receipts, (state,) = await store.report([item(95), item(20)])

    assert [r.applied for r in receipts] == [True, True]
    assert (state.tokens_used, (await row(store))["prev_used"]) == (20, 95)


async def test_a_peak_and_its_fall_are_one_transaction(store: UsageStore):
    await store.database.execute(
        "alter table token_usage add constraint no_fall check (tokens_used <> 20)"
    )
    with pytest.raises(Refused):
        await store.report([item(95), item(20)])

    assert await current(store) == []


async def test_a_peak_that_is_older_than_what_is_stored_is_not(store: UsageStore):
    await store.report([item(10, at=ago(30))])
    receipts, _ = await store.report([item(95, at=ago(60)), item(20, at=ago(5))])

    assert [(r.tokens_used, r.applied) for r in receipts] == [(20, False), (20, True)]
    assert (await row(store))["prev_used"] == 10


@pytest.mark.parametrize("error", [-2.0, 0.0, 2.0])
@pytest.mark.parametrize("first", [1, 95])
@pytest.mark.parametrize("second", [-1.0, 1.0])
async def test_answers_agree_with_the_row_though_the_clock_is_misjudged(
    store: UsageStore,
    monkeypatch: pytest.MonkeyPatch,
    error: float,
    first: int,
    second: float,
):
    """The daemon only estimates the database's clock, which has the last word."""
    estimate = type(store.database.clock).now
    monkeypatch.setattr(
        type(store.database.clock), "now", lambda self: estimate(self) + timedelta(seconds=error)
    )
    receipts, (state,) = await store.report([item(first), item(20, at=ago(-second))])
    applied = [r.tokens_used for r in receipts if r.applied]

    assert state.tokens_used == applied[-1] == (await row(store))["tokens_used"]
    assert all(r.tokens_used == state.tokens_used for r in receipts if not r.applied)


async def test_concurrent_batches_in_any_order_do_not_deadlock(any_dsn: str):
    stores = [UsageStore(await connect(any_dsn)) for _ in range(3)]
    batch = [item(n, model=f"m{n}") for n in range(100)]

    async def write(store: UsageStore, seed: int) -> None:
        for _ in range(8):
            shuffled = random.Random(seed).sample(batch, len(batch))
            await store.report(shuffled)

    try:
        await asyncio.gather(*(write(s, n) for n, s in enumerate(stores)))  # raises Conflict
        assert len(await current(stores[0])) == 100
    finally:
        for store in stores:
            await store.database.close()


async def test_whether_a_batch_would_be_taken_is_asked_without_storing_it(store: UsageStore):
    await store.database.execute(
        "alter table token_usage add constraint no_seven check (tokens_used <> 7)"
    )

    assert await store.acceptable([item(1), item(2, model="b")])
    assert not await store.acceptable([item(1), item(7, model="b")])
    assert not await store.acceptable([item(7), item(3)])  # as a peak
    assert await current(store) == []


@pytest.mark.parametrize(
    "bad",
    [
        item(2**63),
        item(-1),
        item(1, limit=0),
        item(1, model=""),
        item(1, model="x" * 201),
        item(1, model="a\0b"),
        item(1, model="\ud800"),
    ],
)
async def test_what_the_database_or_the_driver_refuses_is_refused(store: UsageStore, bad: Snapshot):
    with pytest.raises(Refused):
        await store.report([item(1, model="fine"), bad])

    assert await current(store) == []
    await store.report([item(1)])


async def test_a_conflict_may_be_repeated(store: UsageStore):
    await store.database.execute(
        """
        create function contend() returns trigger language plpgsql as
        $$ begin raise exception using errcode = '40P01'; end $$
        """
    )
    await store.database.execute(
        "create trigger contend before insert on token_usage for each row"
        " execute function contend()"
    )
    with pytest.raises(Conflict):
        await store.report([item(1)])
    await store.database.execute("drop trigger contend on token_usage")
    await store.report([item(1)])


async def test_only_what_is_open_now_is_current(store: UsageStore):
    await store.report([item(1, model="open"), item(1, model="over"), item(1, model="later")])
    await store.database.execute(
        "update token_usage set period_end = now() - interval '1 s' where model = 'over'"
    )
    await store.database.execute(
        "update token_usage set period_end = now() + interval '1 h' where model = 'later'"
    )
    found = {s.model: s.period_end for s in await current(store)}

    assert found.keys() == {"open", "later"}
    assert found["open"] is None
    assert found["later"] is not None


async def test_all_states_are_read_some_at_a_time(
    store: UsageStore, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("quotabell.store.database.AT_A_TIME", 3)
    await store.report([item(n, model=f"m{n}") for n in range(7)])
    sizes = [len(states) async for states in store.current()]

    assert sizes == [3, 3, 1]
    assert {s.model for s in await current(store)} == {f"m{n}" for n in range(7)}


async def test_it_works_without_prepared_statements(any_dsn: str):
    database = await connect(any_dsn, prepared_statements=False)
    store = UsageStore(database)
    await store.report([item(1)])
    await store.report([item(95), item(2)])

    assert [s.tokens_used for s in await current(store)] == [2]
    await database.close()
