"""Digests: what is told of many alerts at once is told of each of them once, and rightly."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest

from tests.store.test_delivery import LEASE, Replica, box, browser, opened, other, replica  # noqa: F401
from tests.store.test_intervals import minutes
from tests.support.outbox import Outbox

# ruff: noqa: F811

MANY = 12


class Crowd:
    """Alerts of many users that change together."""

    def __init__(self, box: Outbox) -> None:
        self.box = box
        self.alerts: list[UUID] = []
        self.seq = 1

    async def fires(self, number: int = MANY) -> None:
        self.alerts = [await self.box.alert(f"user-{n}") for n in range(number)]
        await self.told("firing", self.alerts)

    async def told(self, transition: str, alerts: list[UUID], level: float = 90) -> None:
        await self.box.connection.execute(
            "insert into notification_history "
            "(user_id, alert_id, seq, kind, transition, level, title, body, data) "
            "select a.user_id, a.id, $3, a.kind, $2, $4, 'one ' || $2, 'b', jsonb_build_object("
            "'quota', a.quota, 'provider', a.provider, 'model', a.model, 'percentage', $4::float8) "
            "from alerts a where a.id = any ($1)",
            *(alerts, transition, self.seq, level),
        )
        self.seq += 1


@pytest.fixture
async def crowd(box: Outbox, replica: Replica) -> Crowd:
    await box.connection.execute("update settings set min_interval = '5 min'")
    await box.subscribe("", browser("operator"))
    return Crowd(box)


async def goes(box: Outbox, *replicas: Replica, fate: str = "sent") -> list[str]:
    """The titles of what is sent, when digests have closed."""
    sent = []
    for _ in range(20):
        await box.connection.execute(
            "update deliveries set due = now() where due < now() + interval '10 s';"
            "update digests set closes_at = now() where closes_at < now() + interval '10 s'"
        )
        busy = False
        for me in replicas:
            await me.store.enqueueing.resume()
            busy |= bool(await me.enqueue())
            claimed, closed = await me.store.claim(50, 50, LEASE, {}, me.worker)
            for one in claimed:
                sent.append(one.message.title)
                assert await me.tell(one, fate, delay=30.0)
            busy |= bool(claimed or closed)
        if not busy:
            return sent
    raise AssertionError("something is due for ever")


async def of_members(box: Outbox) -> Any:
    rows = await box.rows(
        "select transition, status, count(*) as n from notification_history "
        "where alert_id is not null group by 1, 2 order by 1, 2"
    )
    return {(row["transition"], row["status"]): row["n"] for row in rows}


FIRING, ENDED = "12 quotas are above a threshold", "12 alerts are resolved"


async def test_a_few_are_told_one_by_one_and_many_together(
    crowd: Crowd, box: Outbox, replica: Replica
) -> None:
    await crowd.fires(5)
    assert await goes(box, replica) == ["one firing"] * 5
    await crowd.fires()
    assert await goes(box, replica) == [FIRING]
    assert await box.books(enqueued=6) == []


async def test_what_comes_while_a_digest_is_open_joins_it(
    crowd: Crowd, box: Outbox, replica: Replica, other: Replica
) -> None:
    await crowd.fires()
    await replica.enqueue()
    await crowd.fires(2)
    await other.enqueue()

    assert await goes(box, replica) == ["14 quotas are above a threshold"]
    assert await box.books(enqueued=1) == []


async def test_two_replicas_make_one_digest(
    crowd: Crowd, box: Outbox, replica: Replica, other: Replica
) -> None:
    await crowd.fires(120)
    while sum(await asyncio.gather(*(me.store.enqueue(1) for me in (replica, other) * 3))):
        pass

    assert await goes(box, replica) == ["120 quotas are above a threshold"]
    assert await of_members(box) == {("firing", "sent"): 120}
    assert await box.books(enqueued=1) == []


async def test_an_end_of_many_is_held_and_only_for_who_was_told(
    crowd: Crowd, box: Outbox, replica: Replica
) -> None:
    await crowd.fires()
    await goes(box, replica)
    await box.subscribe("", browser("later"))
    await crowd.told("resolved", crowd.alerts)
    assert await goes(box, replica) == []
    await minutes(box, 5)

    assert await goes(box, replica) == [ENDED]
    assert await of_members(box) == {("firing", "sent"): MANY, ("resolved", "sent"): MANY}
    assert await box.books(enqueued=2) == []


async def test_the_end_of_one_of_many_goes_where_their_message_went(
    crowd: Crowd, box: Outbox, replica: Replica
) -> None:
    await crowd.fires()
    await goes(box, replica)
    await box.subscribe("", browser("later"))
    await crowd.told("resolved", crowd.alerts[:1])
    await goes(box, replica)
    await minutes(box, 5)

    assert await goes(box, replica) == ["one resolved"]
    assert await box.books(enqueued=2) == []


async def test_what_gets_worse_after_a_digest_goes_at_once(
    crowd: Crowd, box: Outbox, replica: Replica
) -> None:
    await crowd.fires()
    await goes(box, replica)
    await crowd.told("firing", crowd.alerts[:1], 100)
    assert await goes(box, replica) == ["one firing"]
    await crowd.told("firing", crowd.alerts[1:2], 90)
    assert await goes(box, replica) == []  # no worse than the digest said


async def test_who_changes_before_a_digest_goes_is_not_in_it(
    crowd: Crowd, box: Outbox, replica: Replica
) -> None:
    await crowd.fires()
    await replica.enqueue()
    await crowd.told("resolved", crowd.alerts[:3])
    await replica.enqueue()

    assert await goes(box, replica) == ["9 quotas are above a threshold"]
    assert await of_members(box) == {
        ("firing", "sent"): 9, ("firing", "suppressed"): 3, ("resolved", "suppressed"): 3,
    }  # fmt: skip
    assert await box.books(enqueued=1) == []


async def test_a_storm_that_is_over_before_it_was_told_is_not_told(
    crowd: Crowd, box: Outbox, replica: Replica
) -> None:
    await crowd.fires()
    await replica.enqueue()
    await crowd.told("resolved", crowd.alerts)
    await replica.enqueue()

    assert await goes(box, replica) == []
    assert await box.statuses() == {"superseded": 1}
    assert await box.books(enqueued=1) == []


async def test_who_fires_again_while_the_end_of_many_is_held_is_not_said_to_have_ended(
    crowd: Crowd, box: Outbox, replica: Replica
) -> None:
    await crowd.fires()
    await goes(box, replica)
    await crowd.told("resolved", crowd.alerts)
    await goes(box, replica)
    await crowd.told("firing", crowd.alerts[:1], 100)
    assert await goes(box, replica) == ["one firing"]
    await minutes(box, 5)

    assert await goes(box, replica) == ["11 alerts are resolved"]
    assert await box.books(enqueued=3) == []


@pytest.mark.parametrize("outcome", ["sent", "failed"])
async def test_the_end_of_many_waits_for_what_is_under_way(
    outcome: str, crowd: Crowd, box: Outbox, replica: Replica
) -> None:
    await crowd.fires()
    assert await goes(box, replica, fate="retry") == [FIRING]
    await crowd.told("resolved", crowd.alerts)
    assert await goes(box, replica) == []
    await minutes(box, 10)
    [first] = await replica.claim()
    assert await goes(box, replica) == []
    await replica.tell(first, outcome)
    assert await goes(box, replica) == []
    await minutes(box, 5)

    assert await goes(box, replica) == ([ENDED] if outcome == "sent" else [])
    assert (await box.statuses()).total() == 2
    assert await box.books(enqueued=2) == []


async def test_those_who_are_told_of_different_alerts_have_digests_of_their_own(
    crowd: Crowd, box: Outbox, replica: Replica
) -> None:
    await box.connection.execute(
        "insert into channels (name, type, origin, alert_user) values "
        "('hook', 'webhook', 'http://hook', '^user-[0-7]$'), "
        "('am', 'alertmanager', 'http://am', null)"
    )
    await box.subscribe("user-3", browser("own"))
    await box.subscribe("", browser("second"))
    await crowd.fires()

    sent = await goes(box, replica)

    assert sorted(sent) == sorted(
        [FIRING] * 2 + ["8 quotas are above a threshold"] + ["one firing"] * (MANY + 1)
    )
    assert await box.books(enqueued=MANY + 4) == []
    rows = await box.rows("select data from notification_history where alert_id is null")
    counts = sorted(json.loads(row["data"])["count"] for row in rows)
    assert counts == [8, 12]


async def test_what_is_silenced_is_in_no_digest(
    crowd: Crowd, box: Outbox, replica: Replica
) -> None:
    await box.connection.execute(
        "insert into silences (matchers, alert_user, ends_at, author, reason) "
        "values ('{}', '^user-[0-4]$', now() + interval '1 h', 'ops', 'peace')"
    )
    await crowd.fires()

    assert await goes(box, replica) == ["7 quotas are above a threshold"]
    assert await of_members(box) == {("firing", "sent"): 7, ("firing", "suppressed"): 5}
    assert await box.books() == []


async def test_what_a_digest_told_is_aged_out_with_it(
    crowd: Crowd, box: Outbox, replica: Replica
) -> None:
    await crowd.fires()
    await goes(box, replica)
    await box.connection.execute("delete from notification_history")

    assert await box.value("select count(*) from digest_members") == 0
    assert await box.value("select count(*) from digests") == 0
