"""Many writers and several replicas at once: each level rings exactly once, nobody deadlocks."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from quotabell.store.migrate import migrate
from quotabell.store.queries import load
from tests.http.client import Client, serving, snapshot
from tests.support.bell import Bell, bell
from tests.support.daemon import configure
from tests.support.postgres import Cluster, Database, connected
from tests.support.waiting import eventually

USAGE = load("usage")
WRITERS = 20
KEYS = [f"m{i:02}" for i in range(50)]
LEVELS = (75, 90, 100)
WAITING = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"


@contextlib.asynccontextmanager
async def bells(dsn: str, number: int) -> AsyncIterator[list[Bell]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(bell(dsn)) for _ in range(number)]


async def rang_once_a_level(it: Bell) -> None:
    rows = await it.connection.fetch(
        "select a.model, array_agg(h.level order by h.seq) as levels,"
        " count(distinct a.id) as alerts"
        " from alerts a join notification_history h on h.alert_id = a.id group by a.model"
    )
    assert {row["model"]: (row["alerts"], row["levels"]) for row in rows} == dict.fromkeys(
        KEYS, (1, list(map(float, LEVELS)))
    )


# --- storms --------------------------------------------------------------------------------

CROSS = "update token_usage set tokens_used = 95"


async def _below(it: Bell, states: int) -> None:
    await it.execute(
        "insert into token_usage (user_id, provider, model, tokens_used, token_limit, alert_at)"
        f" select 'user-' || n, 'grok', 'grok-3', 10, 100, 75 from generate_series(1, {states}) n"
    )


async def test_a_crossing_costs_the_same_however_many_crossed_before_it(any_dsn: str) -> None:
    async with bell(any_dsn) as it:
        await _below(it, 300)
        async with it.connection.transaction():
            await it.execute(CROSS)
            read = await it.value(
                "select seq_tup_read + idx_tup_fetch from pg_stat_xact_all_tables"
                " where relname = 'alerts'"
            )

        assert await it.value("select count(*) from alerts where status = 'firing'") == 300
        assert read <= 300, "alerts that were looked at"


async def test_a_transaction_that_has_rung_for_long_leaves_the_rest_to_the_evaluator(
    any_dsn: str,
) -> None:
    async with bell(any_dsn) as it:
        await _below(it, 3)
        async with it.connection.transaction():
            await it.execute("select set_config('quotabell.ringing', '1.9999', true)")
            await it.execute(f"{CROSS} where user_id = 'user-1'")
            assert await it.value("select current_setting('quotabell.ringing')::float8 > 2")
            await it.execute(CROSS)
        assert await it.value("select array_agg(user_id) from alerts") == ["user-1"]

        await it.evaluate()

        assert await it.value("select count(*) from alerts where status = 'firing'") == 3


# --- writers -------------------------------------------------------------------------------


async def report(it: Bell, used: int) -> None:
    """The statement of the committer, all keys in a random order."""
    keys = random.sample(KEYS, len(KEYS))
    rows = [("", "reported", "grok", key, used, 100, None, "tokens", None) for key in keys]
    await it.connection.fetch(USAGE["report"], *map(list, zip(*rows, strict=True)))


async def test_writers_in_sql_ring_each_level_once(any_dsn: str) -> None:
    async with bells(any_dsn, WRITERS) as writers:
        for used in (10, *LEVELS):
            await asyncio.gather(*(report(writer, used) for writer in writers))

        await rang_once_a_level(writers[0])
        assert [w.warnings for w in writers if w.warnings] == []


async def test_writers_beside_evaluators_ring_each_level_once(any_dsn: str) -> None:
    """Without an order between trigger, level check and threshold changes."""
    async with bells(any_dsn, WRITERS + 2) as everyone:
        *writers, first, second = everyone
        over = asyncio.Event()

        async def evaluate(it: Bell) -> None:
            while not over.is_set():
                await it.execute("insert into rearm_scopes default values")
                await it.evaluate()

        evaluators = [asyncio.create_task(evaluate(it)) for it in (first, second)]
        for used in (10, *LEVELS):
            await asyncio.gather(*(report(writer, used) for writer in writers))
        over.set()
        await asyncio.gather(*evaluators)

        await first.evaluate()
        await rang_once_a_level(first)
        assert [it.warnings for it in everyone if it.warnings] == []


async def post(client: Client, used: int) -> None:
    """Every key in a request of its own, in a random order."""
    for model in random.sample(KEYS, len(KEYS)):
        reply = await client.update(snapshot(model=model, tokensUsed=used, tokenLimit=100))
        assert reply.status == 200


async def test_clients_of_two_replicas_ring_each_level_once(tmp_path: Path, dsn: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(
                serving(configure(tmp_path / name, dsn, alerts={"evaluate_every": "50ms"}))
            )
            for name in ("one", "two")
        ]
        it = await stack.enter_async_context(bell(dsn))

        for used in LEVELS:
            await asyncio.gather(*(post(replicas[i % 2], used) for i in range(WRITERS)))
            # Acknowledged, and so in the history: an alert is committed with its usage.
            assert await it.value("select count(*) from alerts where level = $1", used) == len(KEYS)

        await rang_once_a_level(it)


# --- races, one step at a time -------------------------------------------------------------


async def test_two_replicas_that_ring_the_same_state_ring_once(any_dsn: str) -> None:
    async with bells(any_dsn, 2) as (one, two):
        await one.execute("alter table token_usage disable trigger quotabell_ring")
        for _ in range(20):
            state = await one.report(95, model=str(random.random()))

            rung = await asyncio.gather(
                *(it.value("select quotabell_ring_safely($1)", state) for it in (one, two))
            )

            assert rung == [True, True]
            assert await one.transitions(state) == ["90"]


async def test_whoever_waited_for_a_row_rings_for_what_it_has_become(any_dsn: str) -> None:
    """Not for what it was when the waiting began."""
    async with bells(any_dsn, 2) as (writer, evaluator):
        state = await writer.report(80)
        writing = writer.connection.transaction()
        await writing.start()
        await writer.report(95)

        ringing = asyncio.create_task(evaluator.execute("select quotabell_ring($1)", state))
        await eventually(lambda: writer.value(WAITING))
        await writing.commit()
        await ringing

        assert await writer.transitions(state) == ["75", "90"]
        assert await writer.armed(state) == (100, 85)


async def test_the_level_check_waits_for_no_writer(any_dsn: str) -> None:
    async with bells(any_dsn, 2) as (writer, evaluator):
        await writer.execute("alter table token_usage disable trigger quotabell_ring")
        held, free = await writer.report(95), await writer.report(95, model="free")
        writing = writer.connection.transaction()
        await writing.start()
        await writer.report(96)

        async with asyncio.timeout(5):
            assert await evaluator.ring_due() == (2, 1, 1)

        assert await evaluator.transitions(free) == ["90"]
        await writing.commit()
        await evaluator.ring_due()
        assert await evaluator.transitions(held) == ["90"]


async def test_delivery_marks_messages_without_waiting_for_writers(any_dsn: str) -> None:
    async with bells(any_dsn, 2) as (writer, deliverer):
        await writer.report(80)
        writing = writer.connection.transaction()
        await writing.start()
        await writer.report(95)  # holds the alert

        async with asyncio.timeout(5):
            await deliverer.execute("update notification_history set status = 'sent'")

        await writing.commit()


# --- the order of locks --------------------------------------------------------------------


@pytest.fixture
def collated(postgres_15: Cluster) -> Iterator[Database]:
    """A database where "a" sorts before "B", unlike in bytes."""
    name = "t_collated"
    postgres_15.execute(
        f"create database {name} template template0 encoding 'UTF8' locale 'C'"
        " locale_provider icu icu_locale 'en' owner quotabell"
    )
    yield Database(postgres_15, name)
    postgres_15.drop_database(name)


async def test_rearming_locks_in_the_order_of_writers_under_any_collation(
    collated: Database,
) -> None:
    await migrate(collated.dsn)
    async with bells(collated.dsn, 2) as (writer, evaluator):
        async with connected(collated.dsn) as connection:
            assert await connection.fetchval("select 'a' < 'B'")
        for user in ("a", "B"):
            await writer.report(10, user=user)
        writing = writer.connection.transaction()
        await writing.start()
        await writer.report(60, user="B")  # first in bytes

        await evaluator.threshold(50)
        rearming = asyncio.create_task(evaluator.rearm())
        await eventually(lambda: writer.value(WAITING))
        await writer.report(60, user="a")  # a deadlock, if it were held already
        await writing.commit()
        await rearming

        assert await writer.transitions() == ["50", "50"]
