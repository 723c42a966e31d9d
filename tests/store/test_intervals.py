"""Intervals: nobody is told of an alert too often, and everybody of how it stands at the end."""

from __future__ import annotations

import random
from itertools import count, pairwise
from typing import Any
from uuid import UUID

import pytest

from tests.store.test_delivery import LEASE, Replica, box, browser, opened, other, replica  # noqa: F401
from tests.support.outbox import Outbox

# ruff: noqa: F811


CRASH = "update deliveries set lease_until = now() - interval '1 s' where status = 'leased'"


class State:
    """A quota state of alice's, whose alert changes; nothing is enqueued before it is said."""

    def __init__(self, box: Outbox, replica: Replica) -> None:
        self.box, self.replica = box, replica
        self._alert: UUID | None = None
        self._seq = count(1)
        self._fires = False

    async def at(self, level: float) -> UUID:
        """It fires at a level; a new episode if it did not. The message's id."""
        if not self._fires:
            self._alert = await self.box.alert("alice", after=self._alert)
            self._seq = count(1)
            self._fires = True
        return await self._told("firing", level)

    async def ends(self) -> UUID:
        self._fires = False
        return await self._told("resolved", 90)

    async def _told(self, transition: str, level: float) -> UUID:
        title = "ends" if transition == "resolved" else f"{level:g}"
        message = await self.box.announce(
            "alice", alert=self._alert, seq=next(self._seq), transition=transition, title=title
        )
        await self.box.connection.execute(
            "update notification_history set level = $2 where id = $1", message, level
        )
        return message


@pytest.fixture
async def state(box: Outbox, replica: Replica) -> State:
    await box.connection.execute("update settings set min_interval = '5 min'")
    await box.subscribe("alice", browser("alice"))
    return State(box, replica)


async def goes(state: State, limit: int = 20) -> list[str]:
    """What is sent now, as far as it is due."""
    sent = []
    for _ in range(limit):
        await state.replica.store.enqueueing.resume()
        enqueued = await state.replica.enqueue()
        claimed, closed = await state.replica.store.claim(10, 10, LEASE, {}, "replica")
        for one in claimed:
            sent.append(one.message.title)
            assert await state.replica.tell(one)
        if not claimed and not closed and not enqueued:
            return sent
    raise AssertionError("something is due for ever")


async def minutes(box: Outbox, passed: float) -> None:
    """As if it were so much later, by the database's clock."""
    await box.connection.execute(
        "update deliveries set due = due - $1 * interval '1 min', "
        "expires_at = expires_at - $1 * interval '1 min', "
        "finished_at = finished_at - $1 * interval '1 min'",
        passed,
    )
    await box.connection.execute(
        "update digests set closes_at = closes_at - $1 * interval '1 min', "
        "opened_at = opened_at - $1 * interval '1 min'",
        passed,
    )


async def status(box: Outbox, message: UUID) -> Any:
    return await box.value("select status from notification_history where id = $1", message)


async def test_what_is_worse_goes_at_once(state: State, box: Outbox) -> None:
    for level in (75, 90, 100):
        await state.at(level)
        assert await goes(state) == [f"{level}"]
    assert await box.books(enqueued=3) == []


async def test_an_end_is_told_when_the_interval_is_over(state: State, box: Outbox) -> None:
    await state.at(90)
    assert await goes(state) == ["90"]
    await state.ends()
    assert await goes(state) == []
    await minutes(box, 4.9)
    assert await goes(state) == []
    await minutes(box, 0.2)
    assert await goes(state) == ["ends"]
    assert await box.books(enqueued=2) == []


async def test_the_last_state_is_what_is_told_and_what_it_replaced_is_superseded(
    state: State, box: Outbox
) -> None:
    await state.at(90)
    assert await goes(state) == ["90"]
    held = []
    for _ in range(3):
        held.append(await state.ends())
        assert await goes(state) == []
        held.append(await state.at(90))
        assert await goes(state) == []
    await minutes(box, 5)

    assert await goes(state) == ["90"]

    assert [await status(box, one) for one in held] == ["suppressed"] * 5 + ["sent"]
    assert await box.statuses() == {"sent": 2, "superseded": 5}
    assert await box.books() == []


async def test_what_is_worse_than_what_was_told_does_not_wait_for_a_held_end(
    state: State, box: Outbox
) -> None:
    await state.at(75)
    assert await goes(state) == ["75"]
    end = await state.ends()
    assert await goes(state) == []
    await state.at(90)

    assert await goes(state) == ["90"]
    assert await status(box, end) == "suppressed"


async def test_a_level_reached_again_after_an_end_was_told_goes_at_once(
    state: State, box: Outbox
) -> None:
    await state.at(75)
    await goes(state)
    await state.ends()
    await goes(state)
    await minutes(box, 5)
    assert await goes(state) == ["ends"]
    await state.at(75)

    assert await goes(state) == ["75"]


async def test_an_alert_that_ended_before_anybody_was_told_is_not_told(
    state: State, box: Outbox
) -> None:
    first, last = await state.at(90), await state.ends()
    assert await goes(state) == []
    assert [await status(box, one) for one in (first, last)] == ["suppressed"] * 2

    second = await state.at(90)
    await state.replica.enqueue()  # nobody has begun to send it
    end = await state.ends()
    assert await goes(state) == []
    assert (await box.delivery(second))["status"] == "superseded"
    assert await box.delivery_count(end) == 0
    assert await box.books(enqueued=1) == []


async def test_of_several_levels_at_once_only_the_last_is_told(state: State, box: Outbox) -> None:
    for level in (75, 90, 100):
        await state.at(level)

    assert await goes(state) == ["100"]
    assert await box.books(enqueued=1) == []


@pytest.mark.parametrize("outcome", ["sent", "failed", "unknown"])
async def test_an_end_waits_for_what_is_under_way(outcome: str, state: State, box: Outbox) -> None:
    await state.at(90)
    await state.replica.enqueue()
    [first] = await state.replica.claim()
    end = await state.ends()
    assert await goes(state) == []
    await minutes(box, 10)
    assert await goes(state) == []

    await state.replica.tell(first, "retry", delay=0.0)
    [again] = await state.replica.claim()
    if outcome == "unknown":
        await box.connection.execute(CRASH)
        assert await state.replica.store.reap() == 1
        [again] = await state.replica.claim()
        outcome = "failed"
        told = True
    else:
        told = outcome == "sent"
    await state.replica.tell(again, outcome)
    assert await goes(state) == []
    await minutes(box, 5)

    assert await goes(state) == (["ends"] if told else [])
    assert (await box.delivery(end))["status"] == ("sent" if told else "suppressed")
    assert await box.books(enqueued=2) == []


async def test_an_end_goes_where_an_earlier_level_was_told(state: State, box: Outbox) -> None:
    await state.at(75)
    await goes(state)
    await state.at(90)
    await state.replica.enqueue()
    [worse] = await state.replica.claim()
    await state.ends()
    await goes(state)
    await state.replica.tell(worse, "failed")
    assert await goes(state) == []
    await minutes(box, 5)

    assert await goes(state) == ["ends"]


async def test_a_browser_that_came_between_hears_nothing(state: State, box: Outbox) -> None:
    await state.at(90)
    await goes(state)
    await box.subscribe("alice", browser("later"))
    end = await state.ends()
    await goes(state)

    assert await box.delivery_count(end) == 1


async def test_the_end_of_a_period_does_not_expire_while_it_is_held(
    state: State, box: Outbox
) -> None:
    await state.at(90)
    await goes(state)
    await box.connection.execute(
        "insert into token_usage (id, user_id, provider, model, tokens_used, period_start, "
        "period_end) select state_id, user_id, 'p', 'm', 1, '2020-01-01', now() from alerts"
    )
    await state.ends()
    await goes(state)
    await minutes(box, 5)

    assert await goes(state) == ["ends"]


async def test_alertmanager_is_told_of_every_change_at_once(state: State, box: Outbox) -> None:
    await box.connection.execute(
        "update push_subscriptions set is_active = false;"
        "insert into channels (name, type, origin) values ('am', 'alertmanager', 'http://am')"
    )
    for _ in range(2):
        await state.at(90)
        assert await goes(state) == ["90"]
        await state.ends()
        assert await goes(state) == ["ends"]


async def test_without_an_interval_everything_is_told(state: State, box: Outbox) -> None:
    await box.connection.execute("update settings set min_interval = '0'")
    for _ in range(2):
        await state.at(90)
        assert await goes(state) == ["90"]
        await state.ends()
        assert await goes(state) == ["ends"]


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_happens_the_last_word_is_true_and_there_are_few(
    seed: int, state: State, box: Outbox, replica: Replica, other: Replica
) -> None:
    """Two replicas, refusals, crashes; each step a minute."""
    chance = random.Random(seed)
    true = 0.0
    spoken: list[tuple[int, float]] = []
    for minute in range(40):
        if chance.random() < 0.7:
            if true and chance.random() < 0.5:
                await state.ends()
                true = 0.0
            else:
                true = chance.choice([75.0, 90.0, 100.0])
                await state.at(true)
        for me in chance.sample([replica, other], 2):
            await me.store.enqueueing.resume()
            await me.enqueue()
            for one in await me.claim():
                fate = chance.choice(["sent", "sent", "sent", "retry", "crash"])
                if fate == "sent":
                    assert await me.tell(one)
                    title = one.message.title
                    level = 0.0 if title == "ends" else float(title)
                    spoken.append((minute, level))
                elif fate == "retry":
                    assert await me.tell(one, "retry", delay=90.0)
                else:
                    await box.connection.execute(CRASH)
                    await me.store.reap()
        await minutes(box, 1)
    for _ in range(20):
        spoken += [(99, 0.0 if title == "ends" else float(title)) for title in await goes(state)]
        await minutes(box, 1)

    told = spoken[-1][1] if spoken else 0.0
    assert told == true, spoken
    for (a, before), (b, after) in pairwise(spoken):
        assert after > before or b - a >= 5 or b == 99, spoken
    assert await box.books() == []
