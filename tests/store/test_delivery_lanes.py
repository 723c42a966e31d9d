"""Lanes: what a browser shows of a state at the end is the last that was to be told of it."""

from __future__ import annotations

import asyncio
from itertools import count
from uuid import UUID

import pytest

from quotabell.errors import Conflict
from tests.store.test_delivery import LEASE, Replica, box, browser, opened, other, replica  # noqa: F401
from tests.support.outbox import Outbox

# ruff: noqa: F811


class State:
    """A quota state of alice's, whose alert begins and ends, told to her one browser."""

    def __init__(self, box: Outbox, replica: Replica) -> None:
        self._box, self._replica = box, replica
        self._alert: UUID | None = None
        self._seq = count(1)

    async def fires(self) -> UUID:
        """A new episode begins; the id of its message."""
        self._alert = await self._box.alert("alice", after=self._alert)
        self._seq = count(1)
        return await self._told("firing")

    async def rises(self) -> UUID:
        return await self._told("firing")

    async def resolves(self) -> UUID:
        return await self._told("resolved")

    async def _told(self, transition: str) -> UUID:
        message = await self._box.announce(
            "alice", alert=self._alert, seq=next(self._seq), transition=transition
        )
        await self._replica.enqueue()
        return message


@pytest.fixture
async def state(box: Outbox, replica: Replica) -> State:
    await box.subscribe("alice", browser("alice"))
    return State(box, replica)


async def due_now(box: Outbox) -> None:
    await box.connection.execute("update deliveries set due = now() where status = 'pending'")


async def send_all(replica: Replica, limit: int = 20) -> list[str]:
    """The transitions sent until nothing is due."""
    sent = []
    for _ in range(limit):
        claimed, closed = await replica.store.claim(10, 10, LEASE, {}, "replica")
        if not claimed and not closed:
            return sent
        for one in claimed:
            sent.append(one.message.transition)
            assert await replica.tell(one)
    raise AssertionError("something is due for ever")


async def test_an_end_that_is_late_never_follows_the_next_beginning(
    state: State, box: Outbox, replica: Replica
) -> None:
    await state.fires()
    await send_all(replica)
    end = await state.resolves()
    [late] = await replica.claim()
    await replica.tell(late, "retry", delay=60.0)

    await state.fires()
    assert await send_all(replica) == ["firing"]
    await due_now(box)

    assert await send_all(replica) == []
    assert (await box.delivery(end))["status"] == "superseded"
    assert await box.books(enqueued=3) == []


async def test_messages_of_two_episodes_are_never_under_way_together(
    state: State, box: Outbox, replica: Replica
) -> None:
    await state.fires()
    await send_all(replica)
    await state.resolves()
    [end] = await replica.claim()
    await state.fires()

    assert await replica.claim() == []  # the browser would show whichever comes last
    await replica.tell(end)
    assert await send_all(replica) == ["firing"]
    assert await box.books(enqueued=3) == []


async def test_a_new_episode_supersedes_all_that_is_unsent_of_the_last(
    state: State, box: Outbox, replica: Replica
) -> None:
    old = [await state.fires(), await state.rises(), await state.resolves()]
    await state.fires()

    assert await send_all(replica) == ["firing"]

    assert {(await box.delivery(m))["status"] for m in old} == {"superseded"}
    rows = await box.rows("select status from notification_history where id = any($1)", old)
    assert {row["status"] for row in rows} == {"suppressed"}
    assert await box.books(enqueued=4) == []


async def test_a_new_episode_does_not_wait_for_what_it_supersedes(
    state: State, box: Outbox, replica: Replica
) -> None:
    await state.fires()
    [old] = await replica.claim()
    await replica.tell(old, "retry", delay=3600.0)
    await state.resolves()
    await state.fires()

    assert await send_all(replica) == ["firing"]
    await state.resolves()
    await due_now(box)
    assert await send_all(replica) == ["resolved"]
    assert await box.statuses() == {"sent": 2, "superseded": 2}


async def test_an_end_goes_wherever_a_beginning_is_still_shown(
    state: State, box: Outbox, replica: Replica
) -> None:
    await state.fires()
    await send_all(replica)
    await state.resolves()
    await state.fires()
    [second] = await replica.claim()
    await replica.tell(second, "failed")  # the browser still shows the first beginning

    await state.resolves()

    assert await send_all(replica) == ["resolved"]


async def test_an_end_does_not_go_where_the_last_word_was_an_end(
    state: State, box: Outbox, replica: Replica
) -> None:
    await state.fires()
    await send_all(replica)
    await state.resolves()
    await send_all(replica)
    await state.fires()
    [second] = await replica.claim()
    await replica.tell(second, "failed")

    end = await state.resolves()

    assert await send_all(replica) == []
    assert await box.rows("select 1 from deliveries where notification_id = $1", end) == []


async def test_the_order_is_that_of_the_episodes_not_that_of_the_writing(
    state: State, box: Outbox, replica: Replica
) -> None:
    """A lost message of an episode is written again when the next has long begun."""
    await state.fires()
    await send_all(replica)
    first = await box.value("select id from alerts")
    await state.fires()
    await send_all(replica)

    again = await box.announce("alice", alert=first, seq=2, transition="resolved")
    await replica.enqueue()

    assert await send_all(replica) == []
    assert {r["status"] for r in await box.rows(DELIVERIES_OF, again)} <= {"superseded"}


async def test_lanes_of_states_kinds_and_targets_do_not_wait_for_each_other(
    box: Outbox, replica: Replica
) -> None:
    for name in ("phone", "laptop"):
        await box.subscribe("alice", browser(name))
    first = await box.alert("alice")
    state = await box.value("select state_id from alerts")
    await box.connection.execute(
        "insert into alerts (state_id, kind, user_id, quota, provider, model, level, tokens_used) "
        "values ($1, 'forecast', 'alice', 'q', 'p', 'm', 90, 90)",
        state,
    )
    forecast = await box.value("select id from alerts where kind = 'forecast'")
    for alert in (first, forecast, await box.alert("alice")):
        await box.announce("alice", alert=alert, seq=1)
    await replica.enqueue()

    assert len(await replica.claim()) == 6


async def test_two_replicas_send_a_flapping_state_in_order(
    state: State, box: Outbox, replica: Replica, other: Replica
) -> None:
    async def send(me: Replica, *, flaps: asyncio.Task[None]) -> None:
        for n in range(5000):
            try:
                claimed, closed = await me.store.claim(3, 10, LEASE, {}, me.worker)
            except Conflict:  # the other one was quicker
                continue
            for one in claimed:
                await me.tell(one, "retry" if n % 3 else "sent", delay=0.0)
            if flaps.done() and not claimed and not closed:
                if not (await me.store.backlog()).pending:
                    return
                await asyncio.sleep(0.01)

    async def flap() -> None:
        for _ in range(15):
            await state.fires()
            await state.resolves()
        await state.fires()

    flaps = asyncio.create_task(flap())
    async with asyncio.timeout(60):
        await asyncio.gather(*(send(r, flaps=flaps) for r in (replica, other)))

    assert await box.value(LAST_SENT) == "firing"
    assert await box.books(enqueued=None) == []


DELIVERIES_OF = "select status from deliveries where notification_id = $1"
LAST_SENT = """
    select h.transition from attempts a
    join deliveries d on d.id = a.delivery_id
    join notification_history h on h.id = d.notification_id
    where a.outcome = 'sent' order by a.started_at desc limit 1
"""
