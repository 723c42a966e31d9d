"""The outbox's statements: who gets a message, who sends it, and what is believed of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter
from typing import Any
from uuid import UUID

import pytest

from quotabell import log
from quotabell.errors import Conflict, Refused
from quotabell.store.database import Database
from quotabell.store.delivery import Claimed, DeliveryStore
from quotabell.store.outcomes import Told
from quotabell.store.queries import load
from quotabell.store.settling import START
from tests.support.outbox import Outbox, outbox
from tests.support.postgres import connected
from tests.support.waiting import eventually

LEASE = timedelta(seconds=30)
WAITING = (
    "select exists (select from pg_stat_activity "
    "where wait_event_type = 'Lock' and datname = current_database())"
)
SQL = load("delivery") | load("outcomes") | load("settling") | load("enqueue") | load("digests")


@dataclass(slots=True)
class Replica:
    """One daemon's side of the outbox."""

    store: DeliveryStore
    worker: str = "replica"

    async def enqueue(self) -> int:
        return await self.store.enqueue(100)

    async def claim(
        self, limit: int = 100, *, lease: timedelta = LEASE, **sending: int
    ) -> list[Claimed]:
        claimed, _ = await self.store.claim(limit, 100, lease, sending, self.worker)
        return claimed

    async def tell(self, claimed: Claimed, outcome: str = "sent", **more: Any) -> bool:
        """Whether it was believed."""
        status = {"sent": "sent", "retry": "pending"}.get(outcome, "failed")
        told = {"status": status, "http_status": 201, "reason": outcome, **more}
        return bool(
            await self.store.acknowledge([Told(claimed.id, claimed.fence, outcome=outcome, **told)])
        )


@pytest.fixture
async def box(any_dsn: str) -> AsyncIterator[Outbox]:
    async with outbox(any_dsn) as box:
        yield box


@pytest.fixture
async def replica(any_dsn: str) -> AsyncIterator[Replica]:
    async with opened(any_dsn) as store:
        yield Replica(store)


@pytest.fixture
async def other(any_dsn: str) -> AsyncIterator[Replica]:
    async with opened(any_dsn) as store:
        yield Replica(store, "other")


@contextlib.asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[DeliveryStore]:
    logger = log.configure("error").get_logger()
    database = Database(dsn, pool_size=4, prepared_statements=True, log=logger)
    await database.open()
    try:
        yield DeliveryStore(database)
    finally:
        await database.close()


def browser(name: str, host: str = "push.example") -> dict[str, Any]:
    return {"endpoint": f"https://{host}/{name}", "keys": {"p256dh": "p", "auth": name}}


# --- who is told ---------------------------------------------------------------------------


async def test_a_message_goes_to_its_user_and_the_operators(box: Outbox, replica: Replica) -> None:
    own = [await box.subscribe("alice", browser(f"alice-{n}")) for n in range(2)]
    operator = await box.subscribe("", browser("operator"))
    await box.subscribe("bob", browser("bob"))
    await box.subscribe("alice", browser("gone"), active=False)
    message = await box.announce("alice", alert=await box.alert("alice"), seq=1)

    assert await replica.enqueue() == 1
    assert await replica.enqueue() == 0

    rows = await box.rows("select target, origin, notification_id from deliveries")
    assert {row["target"] for row in rows} == {str(s) for s in [*own, operator]}
    assert {row["origin"] for row in rows} == {"https://push.example"}
    assert {row["notification_id"] for row in rows} == {message}
    assert await box.books(enqueued=3) == []


async def test_a_message_about_nobody_goes_to_the_operators_once(
    box: Outbox, replica: Replica
) -> None:
    await box.subscribe("", browser("operator"))
    await box.announce("", alert=await box.alert(), seq=1)

    await replica.enqueue()

    assert await box.books(enqueued=1) == []


@pytest.mark.parametrize(
    ("transition", "data"), [("test", {}), ("firing", {"ownOnly": True})], ids=["test", "resent"]
)
async def test_what_a_user_asks_for_goes_to_nobody_else(
    transition: str, data: Any, box: Outbox, replica: Replica
) -> None:
    own = await box.subscribe("alice", browser("alice"))
    await box.subscribe("", browser("operator"))
    message = await box.announce("alice", transition=transition, data=data)

    await replica.enqueue()

    assert (await box.delivery(message))["target"] == str(own)


async def test_without_anybody_to_tell_a_message_is_suppressed(
    box: Outbox, replica: Replica
) -> None:
    message = await box.announce("alice", alert=await box.alert("alice"), seq=1)

    await replica.enqueue()

    row = (await box.rows("select * from notification_history where id = $1", message))[0]
    assert (row["status"], row["error"]) == ("suppressed", "nobody to tell")
    assert await box.books(enqueued=0) == []


async def test_a_message_whose_alert_vanished_is_never_sent(box: Outbox, replica: Replica) -> None:
    await box.subscribe("alice", browser("alice"))
    await box.announce("alice", alert=UUID(int=1), seq=1)

    await replica.enqueue()

    assert await box.value("select error from notification_history") == "the alert is gone"
    assert await box.books(enqueued=0) == []


async def test_an_end_is_told_only_where_the_alert_was(box: Outbox, replica: Replica) -> None:
    alert = await box.alert("alice")
    told = await box.subscribe("alice", browser("told"))
    failed = await box.subscribe("alice", browser("failed"))
    await box.announce("alice", alert=alert, seq=1)
    await replica.enqueue()
    for delivery in await replica.claim():
        await replica.tell(delivery, "sent" if delivery.target == str(told) else "failed")
    await box.subscribe("alice", browser("later"))
    end = await box.announce("alice", alert=alert, seq=2, transition="resolved")

    await replica.enqueue()

    assert str(failed) != (await box.delivery(end))["target"] == str(told)


async def test_a_resent_end_goes_to_all_who_are_there_now(box: Outbox, replica: Replica) -> None:
    await box.subscribe("alice", browser("alice"))
    await box.announce("alice", transition="resolved")

    await replica.enqueue()

    assert len(await replica.claim()) == 1


@pytest.mark.parametrize(
    ("period_end", "seconds"),
    [
        ("now() + interval '2 hours'", 7200),
        ("now() + interval '9 days'", 86400),
        ("now() - interval '1 hour'", 60),
        ("'infinity'", 86400),
        ("null", 86400),
    ],
)
async def test_a_message_is_worth_sending_while_its_period_lasts(
    period_end: str, seconds: int, box: Outbox, replica: Replica
) -> None:
    await box.subscribe("alice", browser("alice"))
    alert = await box.alert("alice")
    await box.connection.execute(
        "insert into token_usage (id, user_id, provider, model, tokens_used, period_start, "
        "period_end) select state_id, user_id, 'p', 'm', 1, '2020-01-01', "
        f"{period_end} from alerts"
    )
    await box.announce("alice", alert=alert, seq=1)

    await replica.enqueue()

    assert (await replica.claim())[0].ttl == pytest.approx(seconds, abs=5)


async def test_two_replicas_turn_each_message_into_deliveries_once(
    box: Outbox, replica: Replica, other: Replica
) -> None:
    await box.subscribe("alice", browser("alice"))
    for _ in range(200):
        await box.announce("alice")

    while sum(await asyncio.gather(*(r.store.enqueue(7) for r in (replica, other) * 2))):
        pass

    assert await box.books(enqueued=200) == []


# --- claiming ------------------------------------------------------------------------------


async def test_an_attempt_is_committed_before_it_can_be_made(box: Outbox, replica: Replica) -> None:
    await box.subscribe("alice", browser("alice"))
    message = await box.announce("alice")
    await replica.enqueue()

    [claimed] = await replica.claim()

    [attempt] = await box.attempts(message)
    assert (attempt["n"], attempt["worker"], attempt["outcome"]) == (1, "replica", None)
    assert claimed.tries == 1
    assert claimed.subscription is not None
    assert claimed.subscription.endpoint == "https://push.example/alice"
    assert claimed.message.title == "openai / gpt-5 is at 90 %"
    assert "push.example/alice" not in repr(claimed)
    assert await replica.claim() == []
    assert await box.books(enqueued=1) == []


async def test_claims_are_bounded_by_origin_and_in_all(box: Outbox, replica: Replica) -> None:
    for host, count in (("a.example", 8), ("b.example", 3), ("c.example", 1)):
        for n in range(count):
            await box.subscribe("alice", browser(f"{host}-{n}", host))
    await box.announce("alice")
    await replica.enqueue()

    claimed, _ = await replica.store.claim(
        6, 5, LEASE, {"https://a.example": 3, "https://c.example": 7}, "replica"
    )

    assert (
        sorted(c.origin for c in claimed) == ["https://a.example"] * 2 + ["https://b.example"] * 3
    )
    assert len((await replica.store.claim(1, 5, LEASE, {}, "replica"))[0]) == 1


async def test_alerts_go_before_what_people_ask_for(box: Outbox, replica: Replica) -> None:
    for host in ("a.example", "b.example"):
        await box.subscribe("alice", browser(host, host))
    for _ in range(150):
        await box.announce("alice", transition="test")
    alert = await box.announce("alice", alert=await box.alert("alice"), seq=1)

    assert await replica.enqueue() == 100
    assert (await box.delivery_count(alert)) == 2
    claimed, _ = await replica.store.claim(20, 5, LEASE, {}, "replica")

    first, second, *rest = claimed
    assert {first.message.transition, second.message.transition} == {"firing"}
    # What alerts take of an origin counts.
    assert sorted(c.origin for c in rest) == ["https://a.example"] * 4 + ["https://b.example"] * 4


async def test_nothing_is_claimed_of_an_origin_that_pauses(box: Outbox, replica: Replica) -> None:
    for host in ("a.example", "b.example"):
        await box.subscribe("alice", browser(host, host))
    await box.announce("alice")
    await replica.enqueue()
    [first] = [c for c in await replica.claim() if c.origin == "https://a.example"]
    await box.announce("alice")
    await replica.enqueue()

    await replica.tell(first, "retry", delay=0.0, origin=first.origin, pause=60.0)
    assert [c.origin for c in await replica.claim()] == ["https://b.example"]
    await box.rows("update delivery_pauses set until = now()")
    assert [c.origin for c in await replica.claim()] == ["https://a.example"] * 2
    await replica.store.reap()
    assert await box.value("select count(*) from delivery_pauses") == 0


async def test_a_shorter_pause_does_not_end_a_longer_one(box: Outbox, replica: Replica) -> None:
    for n in range(2):
        await box.subscribe("alice", browser(f"{n}"))
    await box.announce("alice")
    await replica.enqueue()
    for delivery, pause in zip(await replica.claim(), (60.0, 0.01), strict=True):
        await replica.tell(delivery, "retry", origin=delivery.origin, pause=pause)

    assert await box.value("select until > now() + interval '50 s' from delivery_pauses")


CROWD = """
    insert into notification_history (id, title, body, enqueued_at)
    values ('00000000-0000-0000-0000-00000000000c', 't', 'b', now());
    insert into deliveries (notification_id, channel, target, origin, expires_at, due)
    select '00000000-0000-0000-0000-00000000000c', 'webpush', gen_random_uuid()::text,
        'https://' || lpad(n::text, 6, '0') || '.example', now() + interval '1 day',
        now() + {due}
    from generate_series(1, 20000) n;
    analyze deliveries;
"""


async def test_a_crowd_of_waiting_origins_does_not_slow_claims_down(
    box: Outbox, replica: Replica
) -> None:
    await box.subscribe("alice", browser("alice", "zzz.example"))
    await box.connection.execute(CROWD.format(due="interval '5 minutes'"))
    took = []
    for _ in range(5):
        await box.announce("alice", alert=await box.alert("alice"), seq=1)
        await replica.enqueue()
        begun = perf_counter()
        assert len(await replica.claim()) == 1
        took.append(perf_counter() - begun)

    assert min(took) < 0.1


async def test_a_crowd_that_is_due_does_not_hide_an_origin_that_answers(
    box: Outbox, replica: Replica
) -> None:
    await box.connection.execute(CROWD.format(due="interval '-1 hour'"))
    await box.subscribe("alice", browser("alice", "zzz.example"))
    await box.announce("alice", alert=await box.alert("alice"), seq=1)
    await replica.enqueue()

    claimed, _ = await replica.store.claim(
        10, 200, LEASE, {"https://zzz.example": 0}, "replica", strangers=0
    )

    assert [c.origin for c in claimed] == ["https://zzz.example"]


async def test_every_origin_of_a_crowd_has_its_turn(box: Outbox, replica: Replica) -> None:
    """Though those that pause have the oldest messages, and more than are looked at."""
    await box.connection.execute(CROWD.format(due="interval '-1 hour'"))
    await box.connection.execute(
        "insert into delivery_pauses select origin, now() + interval '1 hour', 'sick' "
        "from deliveries where origin <> 'https://000900.example'"
    )

    claimed = [c for _ in range(20) for c in await replica.claim()]

    assert [c.origin for c in claimed] == ["https://000900.example"]


async def test_two_replicas_claim_each_delivery_once(
    box: Outbox, replica: Replica, other: Replica
) -> None:
    for n in range(50):
        await box.subscribe("alice", browser(f"{n}"))
    for _ in range(20):
        await box.announce("alice")
    while await replica.enqueue():
        pass
    sent: list[int] = []

    async def work(me: Replica) -> None:
        while claimed := await me.claim(17):
            sent.extend(c.id for c in claimed)
            told = [Told(c.id, c.fence, "sent", "sent", 201, "sent") for c in claimed]
            assert len(await me.store.acknowledge(told)) == len(claimed)

    await asyncio.gather(*(work(r) for r in (replica, other) * 2))

    assert len(sent) == len(set(sent)) == 1000
    assert await box.outcomes() == {"sent": 1000}
    assert await box.books(enqueued=1000) == []


# --- order ---------------------------------------------------------------------------------


async def test_messages_of_an_alert_go_to_a_target_one_at_a_time_in_order(
    box: Outbox, replica: Replica
) -> None:
    alert = await box.alert("alice")
    await box.subscribe("alice", browser("alice"))
    for seq in (1, 2, 3):
        await box.announce("alice", alert=alert, seq=seq, title=f"{seq}")
    await replica.enqueue()

    for seq in (1, 2, 3):
        [claimed] = await replica.claim()
        assert claimed.message.title == f"{seq}"
        assert await replica.claim() == []
        assert await replica.tell(claimed)

    assert await box.books(enqueued=3) == []


async def test_what_a_later_message_has_overtaken_is_superseded(
    box: Outbox, replica: Replica
) -> None:
    alert = await box.alert("alice")
    await box.subscribe("alice", browser("alice"))
    first = await box.announce("alice", alert=alert, seq=1)
    await replica.enqueue()
    [delayed] = await replica.claim()
    await replica.tell(delayed, "retry", delay=60.0)
    await box.announce("alice", alert=alert, seq=2)
    await replica.enqueue()
    [later] = await replica.claim()

    await box.rows("update deliveries set due = now() where seq = 1")
    assert await replica.claim() == []  # the later one is under way
    await replica.tell(later)
    assert await replica.claim() == []

    assert (await box.delivery(first))["status"] == "superseded"
    assert await box.value("select status from notification_history where id = $1", first) == (
        "suppressed"
    )
    assert await box.books(enqueued=2) == []


async def test_a_message_overtaken_while_it_is_claimed_is_not_sent(
    any_dsn: str, box: Outbox, replica: Replica
) -> None:
    alert = await box.alert("alice")
    await box.subscribe("alice", browser("alice"))
    messages = [await box.announce("alice", alert=alert, seq=seq) for seq in (1, 2)]
    await replica.enqueue()
    async with connected(any_dsn) as connection:
        rows = await connection.fetch(SQL["claim"], 1, 1, LEASE, [], [], "replica", False, 1, "")
        await box.connection.execute(
            "update deliveries set status = 'sent', tries = 1, finished_at = now() where seq = 2"
        )
        [row] = await connection.fetch(
            SQL["claimed"], [row["id"] for row in rows], [row["fence"] for row in rows]
        )

    assert row["status"] == "superseded"
    delivery = await box.delivery(messages[0])
    assert (delivery["status"], delivery["tries"]) == ("superseded", 0)
    assert await box.attempts(messages[0]) == []


async def test_two_replicas_never_have_two_messages_of_an_alert_under_way(
    any_dsn: str, box: Outbox, replica: Replica
) -> None:
    alert = await box.alert("alice")
    await box.subscribe("alice", browser("alice"))
    for seq in (1, 2):
        await box.announce("alice", alert=alert, seq=seq)
    await replica.enqueue()
    await box.connection.execute("update deliveries set due = now() + interval '1 h' where seq = 1")
    async with connected(any_dsn) as connection:
        async with connection.transaction():  # another replica, for which it is due already
            await connection.execute(
                "with leased as (update deliveries set status = 'leased', tries = 1, "
                "lease_until = now() + interval '30 s' where seq = 1 returning *) "
                "insert into attempts (delivery_id, n, fence, worker, lane) "
                "select id, tries, fence, 'other', lane from leased"
            )
            second = asyncio.create_task(replica.claim())
            await eventually(lambda: box.value(WAITING))

    with pytest.raises(Conflict):
        await second
    assert await replica.claim() == []


async def test_an_end_waits_for_the_message_that_it_ends(box: Outbox, replica: Replica) -> None:
    alert = await box.alert("alice")
    await box.subscribe("alice", browser("alice"))
    await box.announce("alice", alert=alert, seq=1)
    await replica.enqueue()
    [firing] = await replica.claim()
    await replica.tell(firing, "retry", delay=60.0)
    await box.announce("alice", alert=alert, seq=2, transition="resolved")
    await replica.enqueue()

    assert await replica.claim() == []
    await box.rows("update deliveries set due = now() where seq = 1")
    [firing] = await replica.claim()
    assert firing.message.transition == "firing"
    await replica.tell(firing)
    [end] = await replica.claim()
    assert end.message.transition == "resolved"


async def test_the_end_of_what_never_arrived_is_suppressed(box: Outbox, replica: Replica) -> None:
    alert = await box.alert("alice")
    await box.subscribe("alice", browser("alice"))
    await box.announce("alice", alert=alert, seq=1)
    await replica.enqueue()
    [firing] = await replica.claim()
    end = await box.announce("alice", alert=alert, seq=2, transition="resolved")
    await replica.enqueue()

    await replica.tell(firing, "failed")
    assert await replica.claim() == []

    delivery = await box.delivery(end)
    assert (delivery["status"], delivery["reason"]) == ("suppressed", "never told of the alert")
    assert await box.books(enqueued=2) == []


async def test_a_message_ages_from_its_creation_not_from_its_turn(
    box: Outbox, replica: Replica
) -> None:
    await box.subscribe("alice", browser("alice"))
    old, older = [await box.announce("alice") for _ in range(2)]
    for message, age in ((old, "23 hours"), (older, "25 hours")):
        await box.connection.execute(
            "update notification_history set created_at = now() - $2::text::interval where id = $1",
            *(message, age),
        )
    await replica.enqueue()

    [claimed] = await replica.claim()

    assert claimed.message.notification_id == str(old)
    assert claimed.ttl == pytest.approx(3600, abs=5)
    assert (await box.delivery(older))["status"] == "expired"
    assert await box.books(enqueued=2) == []


async def test_what_was_superseded_shows_no_old_error(box: Outbox, replica: Replica) -> None:
    alert = await box.alert("alice")
    await box.subscribe("alice", browser("alice"))
    first = await box.announce("alice", alert=alert, seq=1)
    await replica.enqueue()
    [delayed] = await replica.claim()
    await replica.tell(delayed, "retry", delay=0.0, reason="server_error")
    await box.connection.execute("update deliveries set due = now() + interval '1 hour'")
    await box.announce("alice", alert=alert, seq=2)
    await replica.enqueue()
    [later] = await replica.claim()
    await replica.tell(later)
    await box.connection.execute("update deliveries set due = now() where status = 'pending'")
    await replica.claim()

    delivery = await box.delivery(first)
    assert (delivery["status"], delivery["reason"]) == ("superseded", None)
    assert await box.value("select error from notification_history where id = $1", first) == (
        "superseded"
    )


@pytest.mark.parametrize(
    ("tried", "repeat", "status"),
    [(False, True, "suppressed"), (True, True, "failed"), (False, False, "failed")],
)
async def test_a_repetition_that_was_too_late_to_be_tried_is_no_failure(
    tried: bool, repeat: bool, status: str, box: Outbox, replica: Replica
) -> None:
    await box.subscribe("alice", browser("alice"))
    message = await box.announce(
        "alice", data={"quota": "q"} | ({"repeat": True} if repeat else {})
    )
    await replica.enqueue()
    if tried:
        [claimed] = await replica.claim()
        await replica.tell(claimed, "retry", delay=0.0, reason="server_error")
    await box.connection.execute("update deliveries set expires_at = now() - interval '1 s'")
    await replica.claim()

    assert (await box.delivery(message))["status"] == "expired"
    assert await box.value("select status from notification_history") == status
    assert await box.books(enqueued=1) == []


async def test_what_has_expired_is_not_sent(box: Outbox, replica: Replica) -> None:
    await box.subscribe("alice", browser("alice"))
    message = await box.announce("alice")
    await replica.enqueue()
    await box.connection.execute("update deliveries set expires_at = now() - interval '1 s'")

    claimed, closed = await replica.store.claim(10, 10, LEASE, {}, "replica")

    assert (claimed, [c.status for c in closed]) == ([], ["expired"])
    assert await box.attempts(message) == []
    assert await box.value("select status from notification_history") == "failed"
    assert await box.books(enqueued=1) == []


# --- what became of it ---------------------------------------------------------------------


async def test_only_the_holder_of_the_fence_is_believed(
    box: Outbox, replica: Replica, other: Replica
) -> None:
    await box.subscribe("alice", browser("alice"))
    message = await box.announce("alice")
    await replica.enqueue()
    [zombie] = await replica.claim(lease=timedelta(milliseconds=50))
    await asyncio.sleep(0.1)

    assert await other.store.reap() == 1
    assert not await replica.tell(zombie)  # nobody has it now
    [live] = await other.claim()
    assert not await replica.tell(zombie)  # somebody else has it
    assert await other.tell(live)
    assert not await replica.tell(zombie, "failed")  # it is done
    assert not await other.tell(live, "failed")

    assert [a["outcome"] for a in await box.attempts(message)] == ["unknown", "sent"]
    assert await box.statuses() == {"sent": 1}
    assert await box.books(enqueued=1) == []


async def test_a_lease_that_runs_is_not_reaped(box: Outbox, replica: Replica) -> None:
    await box.subscribe("alice", browser("alice"))
    await box.announce("alice")
    await replica.enqueue()
    await replica.claim()

    assert await replica.store.reap() == 0
    assert await replica.store.reap("other") == 0
    assert await replica.store.reap("replica") == 1  # it is known to be dead


async def test_what_was_not_sent_can_be_given_back(box: Outbox, replica: Replica) -> None:
    await box.subscribe("alice", browser("alice"))
    message = await box.announce("alice")
    await replica.enqueue()
    claimed = await replica.claim()

    await replica.store.release(claimed)

    assert await box.attempts(message) == []
    assert not await replica.tell(claimed[0])
    [again] = await replica.claim()
    assert again.tries == 1
    await replica.store.release(claimed)  # the old fence: changes nothing
    assert await replica.tell(again)
    assert await box.books(enqueued=1) == []


async def test_only_gone_ends_a_subscription(box: Outbox, replica: Replica) -> None:
    names = ("sent", "gone", "failed", "retry")
    keys = {str(await box.subscribe("alice", browser(name))): name for name in names}
    await box.announce("alice")
    await replica.enqueue()
    for delivery in await replica.claim():
        await replica.tell(delivery, keys[delivery.target], reason="410: gone")

    rows = await box.rows(
        "select id::text, is_active, reason, last_success_at from push_subscriptions"
    )
    found = {keys[row["id"]]: row for row in rows}
    assert {name for name in names if not found[name]["is_active"]} == {"gone"}
    assert found["gone"]["reason"] == "410: gone"
    assert {name for name in names if found[name]["last_success_at"]} == {"sent"}


@pytest.mark.parametrize(
    ("outcomes", "status", "error"),
    [
        (["failed", "sent"], "sent", None),
        (["sent", "failed"], "sent", None),
        (["failed", "gone"], "failed", "gone"),
        (["failed", "retry"], "pending", None),
    ],
)
async def test_a_notification_is_what_its_deliveries_are(
    outcomes: list[str], status: str, error: str | None, box: Outbox, replica: Replica
) -> None:
    for n in range(len(outcomes)):
        await box.subscribe("alice", browser(f"{n}"))
    message = await box.announce("alice")
    await replica.enqueue()
    for delivery, outcome in zip(await replica.claim(), outcomes, strict=True):
        await replica.tell(delivery, outcome, delay=60.0)

    [row] = await box.rows("select * from notification_history where id = $1", message)
    assert (row["status"], row["error"]) == (status, error)
    assert (row["sent_at"] is not None) == (status == "sent")
    assert await box.books(enqueued=2) == []


async def test_a_retry_is_due_after_its_delay_by_the_databases_clock(
    box: Outbox, replica: Replica
) -> None:
    await box.subscribe("alice", browser("alice"))
    message = await box.announce("alice")
    await replica.enqueue()
    [claimed] = await replica.claim()
    await replica.tell(claimed, "retry", delay=120.0, counts=False)

    delivery = await box.delivery(message)
    assert delivery["counted"] == 0
    assert await box.value(
        "select due between now() + interval '110 s' and now() + interval '120 s' from deliveries"
    )


async def test_two_replicas_that_end_the_last_two_deliveries_close_the_notification(
    box: Outbox, replica: Replica, other: Replica
) -> None:
    for name in ("a", "b"):
        await box.subscribe("alice", browser(name))
    for _ in range(30):
        await box.announce("alice")
    await replica.enqueue()
    by_message: dict[str, list[Claimed]] = {}
    for delivery in await replica.claim():
        by_message.setdefault(delivery.message.notification_id, []).append(delivery)

    for first, second in by_message.values():
        await asyncio.gather(replica.tell(first, "failed"), other.tell(second, "failed"))

    assert (
        await box.value("select count(*) from notification_history where status = 'failed'") == 30
    )


async def test_replicas_that_record_the_same_people_at_once_do_not_block_each_other(
    box: Outbox, replica: Replica, other: Replica
) -> None:
    for n in range(20):
        await box.subscribe("alice", browser(f"{n}"))
    for _ in range(40):
        await box.announce("alice")
    while await replica.enqueue():
        pass
    conflicts = 0

    async def work(me: Replica, step: int) -> None:
        nonlocal conflicts
        while claimed := await me.claim(25):
            told = [
                Told(
                    c.id,
                    c.fence,
                    "failed",
                    "gone" if c.id % 3 else "failed",
                    410,
                    "gone",
                    origin=c.origin,
                    pause=0.001,
                )
                for c in claimed
            ][::step]
            while True:
                try:
                    assert len(await me.store.acknowledge(told)) == len(told)
                    break
                except Conflict:
                    conflicts += 1
            await asyncio.sleep(0.002)  # the pause

    while not await box.closed():
        await asyncio.gather(work(replica, 1), work(other, -1), work(replica, -1), work(other, 1))

    assert conflicts == 0
    assert await box.statuses() == {"failed": 800}
    assert await box.books(enqueued=800) == []


# --- housekeeping --------------------------------------------------------------------------


async def test_the_backlog_is_what_is_open(box: Outbox, replica: Replica) -> None:
    for n in range(3):
        await box.subscribe("alice", browser(f"{n}"))
    await box.announce("alice")
    assert (await replica.store.backlog()).pending == 0
    await replica.enqueue()
    assert (await replica.store.backlog()).pending == 3
    await box.connection.execute("update deliveries set due = now() - interval '9 s'")
    first, second, _ = await replica.claim(3)
    await replica.tell(first)
    await replica.tell(second, "retry", delay=60.0)

    assert await replica.store.backlog() == (2, 0.0)
    await replica.store.reap("replica")
    await box.connection.execute("update deliveries set due = now() - interval '9 s'")
    pending, oldest = await replica.store.backlog()
    assert (pending, round(oldest)) == (2, 9)


async def test_a_message_that_is_not_yet_made_into_deliveries_is_late_as_well(
    box: Outbox, replica: Replica
) -> None:
    """Else nobody would see that deliveries are not made at all."""
    assert await replica.store.backlog() == (0, 0.0)
    await box.subscribe("alice", browser("alice"))
    await box.announce("alice")
    await box.connection.execute(
        "update notification_history set created_at = now() - interval '40 s'"
    )
    pending, oldest = await replica.store.backlog()
    assert (pending, round(oldest)) == (0, 40)

    await replica.enqueue()
    assert round((await replica.store.backlog()).oldest) == 0


async def test_attempts_go_with_their_notification(box: Outbox, replica: Replica) -> None:
    await box.subscribe("alice", browser("alice"))
    kept, removed = [await box.announce("alice") for _ in range(2)]
    await replica.enqueue()
    await replica.claim()

    await box.connection.execute("delete from notification_history where id = $1", removed)

    assert len(await box.attempts(kept)) == 1
    assert await box.value("select count(*) from attempts") == 1


async def test_a_message_that_cannot_be_delivered_gives_way_alone(
    box: Outbox, replica: Replica, other: Replica
) -> None:
    await box.connection.execute("alter table deliveries add check (seq <> 13)")
    await box.subscribe("alice", browser("alice"))
    alert = await box.alert("alice")
    messages = [await box.announce("alice", alert=alert, seq=seq) for seq in (12, 13, 14, 15)]

    with pytest.raises(Refused):
        await replica.enqueue()
    given_up = await asyncio.gather(
        *(r.store.enqueue_oldest("no") for r in (replica, other, replica, other))
    )

    while await replica.enqueue():
        pass
    assert [key for key in given_up if key] == [messages[1]]
    failed = await box.rows("select id, error from notification_history where status = 'failed'")
    assert failed == [{"id": messages[1], "error": "no"}]
    assert await replica.store.enqueue_oldest("no") is None
    assert (await box.statuses()).total() == 3


async def test_a_webpush_delivery_names_a_subscription(box: Outbox) -> None:
    message = await box.announce("alice")
    with pytest.raises(Exception, match="deliveries_target_is_id"):
        await box.connection.execute(
            "insert into deliveries (notification_id, channel, target, origin, expires_at) "
            "values ($1, 'webpush', 'nobody', '', now())",
            message,
        )


HISTORY = """
    insert into push_subscriptions (user_id, subscription)
    select 'user-' || n, jsonb_build_object('endpoint', 'https://push.example/' || n)
    from generate_series(1, 2000) n;
    insert into notification_history (user_id, alert_id, seq, title, body, status, enqueued_at)
    select 'user-' || n % 2000, gen_random_uuid(), 1, 't', 'b',
        case when n % 500 = 0 then 'pending' else 'sent' end,
        case when n % 1000 <> 0 then now() end
    from generate_series(1, 40000) n;
    insert into deliveries (notification_id, channel, target, origin, state_id, kind,
        episode, seq, expires_at, status, lease_until, finished_at)
    select id, 'webpush', gen_random_uuid()::text, 'https://push.example', alert_id, kind, 1, seq,
        now() + interval '1 day', s, case when s = 'leased' then now() end,
        case when s = 'sent' then now() end
    from (select *, case when status = 'sent' then 'sent'
            when random() < 0.1 then 'leased' else 'pending' end as s
          from notification_history where enqueued_at is not null) h;
    insert into attempts (delivery_id, n, fence, worker, outcome)
    select id, 1, 1, 'w', case when status = 'sent' then 'sent' end from deliveries;
    analyze push_subscriptions, notification_history, deliveries, attempts;
"""


async def test_a_long_history_is_never_scanned(box: Outbox) -> None:
    await box.connection.execute(HISTORY)
    three = [1, 2, 3]
    arguments: dict[str, list[Any]] = {
        "enqueue": [100, None, 5, True, timedelta(seconds=1), timedelta(seconds=5)],
        "resume": [],
        "members": [[UUID(int=1)], 100],
        "dissolve": [UUID(int=1)],
        "oldest": [],
        "claim": [100, 100, LEASE, [], [], "w", False, 100, ""],
        "claimed": [three, three],
        "acknowledge": ["[]"],
        "held": [three],
        "pause": [["https://push.example"], [1.0], ["throttled"]],
        "follow": ["[]"],
        "hold": [[UUID(int=1)]],
        "settle": [[UUID(int=1)]],
        "forgotten": [*START, 200],
        "reap": [None, False],
        "release": [three, three, [0.0, 0.0, 0.0]],
        "backlog": [],
    }
    for mode in ("force_custom_plan", "force_generic_plan"):
        await box.connection.execute(f"set plan_cache_mode = {mode}")
        for name, values in arguments.items():
            plan = await (await box.connection.prepare(SQL[name])).explain(*values)
            scanned = {node["Relation Name"] for node in nodes(plan) if is_scan(node)}
            assert not scanned & {"deliveries", "attempts", "notification_history"}, (name, plan)
    plan = await (await box.connection.prepare("select * from deliveries")).explain()
    assert any(map(is_scan, nodes(plan)))


def nodes(plan: Any) -> Iterator[dict[str, Any]]:
    """Every node of what EXPLAIN gives."""
    if isinstance(plan, list):
        for part in plan:
            yield from nodes(part)
    elif isinstance(plan, dict):
        if "Node Type" in plan:
            yield plan
        yield from nodes(plan.get("Plan") or plan.get("Plans"))


def is_scan(node: dict[str, Any]) -> bool:
    return bool(node["Node Type"] == "Seq Scan")
