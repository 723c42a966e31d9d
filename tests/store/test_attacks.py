"""Schedules made to break what is told: nothing is lost, held for ever, or in a wrong order."""

from __future__ import annotations

from typing import Any

import pytest

from tests.store.test_delivery import Replica, box, browser, other, replica  # noqa: F401
from tests.store.test_digests import ENDED, FIRING, MANY, Crowd, crowd, goes  # noqa: F401
from tests.store.test_intervals import State, minutes, state
from tests.store.test_intervals import goes as tells
from tests.support.outbox import Outbox

# ruff: noqa: F811

__all__ = ["state"]
INTERVALS = ["0", "5 min"]


async def interval(box: Outbox, value: str) -> None:
    await box.connection.execute(f"update settings set min_interval = '{value}'")


async def told_of(box: Outbox) -> Any:
    """For each state what was sent last, by the time of its sending: an end, or not."""
    rows = await box.rows(
        "select distinct on (state_id) state_id, level is null as ended from ("
        "  select d.state_id, d.told_level as level, d.finished_at, d.place from deliveries d"
        "  where d.status = 'sent' and d.state_id is not null"
        "  union all"
        "  select m.state_id, m.told_level, d.finished_at, m.place from digest_members m"
        "  join deliveries d on d.notification_id = m.digest"
        "  where d.status = 'sent' and not m.superseded) told "
        "order by state_id, finished_at desc, place desc"
    )
    return {row["state_id"]: row["ended"] for row in rows}


async def truly(box: Outbox) -> Any:
    rows = await box.rows("select distinct on (state_id) state_id, status from alerts order by 1")
    return {row["state_id"]: row["status"] != "firing" for row in rows}


async def in_fours(crowd: Crowd, box: Outbox, replica: Replica, fate: str) -> None:
    """Two times four alerts, each told with a message of its own."""
    alerts = []
    for _ in range(2):
        await crowd.fires(4)
        alerts += crowd.alerts
        assert await goes(box, replica, fate=fate) == ["one firing"] * 4
    crowd.alerts = alerts


@pytest.mark.parametrize("pause", INTERVALS)
async def test_the_end_of_many_comes_after_each_of_their_messages(
    pause: str, crowd: Crowd, box: Outbox, replica: Replica
) -> None:
    await interval(box, pause)
    await in_fours(crowd, box, replica, "retry")
    await crowd.told("resolved", crowd.alerts)
    await goes(box, replica)
    for _ in range(3):
        await minutes(box, 6)
        await goes(box, replica)

    assert set((await told_of(box)).values()) <= {True}
    assert await box.books() == []


@pytest.mark.parametrize("pause", INTERVALS)
async def test_an_end_that_is_tried_again_does_not_follow_a_new_beginning_of_many(
    pause: str, crowd: Crowd, box: Outbox, replica: Replica
) -> None:
    await interval(box, pause)
    await in_fours(crowd, box, replica, "sent")
    await crowd.told("resolved", crowd.alerts[:1])
    await goes(box, replica)
    await minutes(box, 6)
    await replica.store.enqueueing.resume()
    ends = [one for one in await replica.claim() if one.message.title == "one resolved"]
    if not ends:  # without an interval it went already: this once it is tried again
        await crowd.told("firing", crowd.alerts[:1], 100)
        await goes(box, replica)
        await crowd.told("resolved", crowd.alerts[:1])
        await replica.enqueue()
        ends = await replica.claim()
    [end] = ends
    assert await replica.tell(end, "retry", delay=60.0)
    await crowd.told("firing", crowd.alerts, 120)
    await goes(box, replica)
    for _ in range(3):
        await minutes(box, 6)
        await goes(box, replica)

    assert set((await told_of(box)).values()) == {False}
    assert await box.books() == []


async def test_a_message_about_many_that_is_late_does_not_follow_the_end_of_one(
    crowd: Crowd, box: Outbox, replica: Replica
) -> None:
    await crowd.fires()
    assert await goes(box, replica, fate="retry") == [FIRING]
    await box.connection.execute(
        "update deliveries set due = now() + interval '1 h' where status = 'pending'"
    )
    await crowd.told("firing", crowd.alerts[:1], 100)
    assert await goes(box, replica) == ["one firing"]
    await crowd.told("resolved", crowd.alerts[:1])
    for _ in range(12):
        await goes(box, replica)
        await minutes(box, 6)

    ended = await told_of(box)
    first = await box.value("select state_id from alerts where id = $1", crowd.alerts[0])
    assert [key for key, value in ended.items() if value] == [first]
    assert await box.books() == []


async def test_an_end_that_somebody_held_is_not_told_after_the_next_beginning(
    crowd: Crowd, box: Outbox, replica: Replica, other: Replica
) -> None:
    await crowd.fires()
    await goes(box, replica)
    again = await box.alert("user-0", after=crowd.alerts[0])
    await crowd.told("resolved", crowd.alerts[:1])
    await crowd.told("firing", [again], 100)
    async with other.store.database.transaction() as connection:
        await connection.execute(
            "select from notification_history where transition = 'resolved' for update"
        )
        assert await goes(box, replica) == ["one firing"]
    await crowd.told("resolved", crowd.alerts[1:])
    await goes(box, replica)
    await minutes(box, 6)

    assert await goes(box, replica) == ["11 alerts are resolved"]
    await minutes(box, 6)
    assert await goes(box, replica) == []
    assert await box.books() == []


async def test_a_clock_that_was_set_back_holds_nothing_for_long(state: State, box: Outbox) -> None:
    await state.at(90)
    assert await tells(state) == ["90"]
    await box.connection.execute(
        "update deliveries set finished_at = finished_at + interval '1 year'"
    )
    await state.ends()
    assert await tells(state) == []
    await minutes(box, 5.1)

    assert await tells(state) == ["ends"]


async def test_what_waits_is_not_held_by_a_clock_that_was_set_back(
    state: State, box: Outbox
) -> None:
    await state.at(90)
    await state.replica.enqueue()
    [first] = await state.replica.claim()
    await state.ends()
    assert await tells(state) == []
    assert await state.replica.tell(first)
    await box.connection.execute(
        "update deliveries set finished_at = finished_at + interval '1 year'"
    )
    assert await tells(state) == []
    await minutes(box, 5.1)

    assert await tells(state) == ["ends"]


async def test_a_shorter_interval_holds_for_what_is_held(state: State, box: Outbox) -> None:
    await interval(box, "7 days")
    await state.at(90)
    assert await tells(state) == ["90"]
    await state.ends()
    assert await tells(state) == []
    await interval(box, "5 min")
    assert await tells(state) == []
    await minutes(box, 5.1)

    assert await tells(state) == ["ends"]


async def test_without_an_interval_any_more_all_that_is_held_goes(
    crowd: Crowd, box: Outbox, replica: Replica
) -> None:
    await interval(box, "7 days")
    await crowd.fires()
    await goes(box, replica)
    await crowd.told("resolved", crowd.alerts)
    assert await goes(box, replica) == []
    await interval(box, "0")

    assert await goes(box, replica) == [ENDED]
    assert await box.books(enqueued=2) == []


@pytest.mark.parametrize("fate", ["sent", "failed"])
async def test_what_waits_for_a_delivery_that_was_deleted_does_not_wait_for_ever(
    fate: str, state: State, box: Outbox
) -> None:
    await state.at(75)
    assert await tells(state) == ["75"]
    await state.at(90)
    await state.replica.enqueue()
    [worse] = await state.replica.claim()
    await state.ends()
    assert await tells(state) == []
    if fate == "failed":
        await state.replica.tell(worse, fate)
    await box.connection.execute("delete from deliveries where id = $1", worse.id)
    await tells(state)
    await minutes(box, 6)

    assert (await tells(state))[-1:] == ["ends"]


async def test_alerts_that_vanish_while_they_wait_stop_nothing_else(
    crowd: Crowd, box: Outbox, replica: Replica
) -> None:
    await crowd.fires()
    await replica.enqueue()
    await box.connection.execute("delete from alerts where id = any ($1)", crowd.alerts[:3])
    await crowd.told("resolved", crowd.alerts[3:])
    await goes(box, replica)
    for _ in range(3):
        await minutes(box, 6)
        await goes(box, replica)

    assert (await box.statuses())["pending"] == 0
    assert await box.books() == []
    assert MANY == 12


async def test_what_has_no_level_is_told_at_once(state: State, box: Outbox) -> None:
    for _ in range(2):
        await state.at(0)  # as of a source that stopped
        assert await tells(state) == ["0"]
        await state.ends()
        await tells(state)
        await minutes(box, 5.1)
        assert await tells(state) == ["ends"]
