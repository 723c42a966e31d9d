"""What follows from deliveries: nobody who holds a row holds up what is known of a send."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from quotabell.domain.outcome import Outcome
from quotabell.service.settle import Settler
from quotabell.store.delivery import Claimed
from quotabell.store.outcomes import Status, Told
from quotabell.store.settling import START
from tests.service.station import SENT, Recorder, endpoint, station
from tests.store.test_delivery import Replica, box, browser, opened, other, replica  # noqa: F401
from tests.support.outbox import Outbox, outbox
from tests.support.postgres import connected
from tests.support.waiting import eventually

# ruff: noqa: F811

HELD = {
    "subscription": "select from push_subscriptions where subscription ->> 'endpoint' like '%/0' "
    "for update",
    "notification": "select from notification_history order by created_at limit 1 for update",
}


def told(claimed: Claimed, outcome: str = "gone") -> list[Told]:
    status: Status = "sent" if outcome == "sent" else "failed"
    return [Told(claimed.id, claimed.fence, status, outcome, 201, outcome)]


@contextlib.asynccontextmanager
async def held(dsn: str, query: str) -> AsyncIterator[None]:
    """Somebody looks at a row for long."""
    async with connected(dsn) as connection, connection.transaction():
        await connection.execute(query)
        yield


@pytest.mark.parametrize("query", HELD.values(), ids=HELD)
async def test_a_held_row_holds_up_no_acknowledgement(
    query: str, any_dsn: str, box: Outbox, replica: Replica
) -> None:
    for n in range(4):
        await box.subscribe("alice", browser(f"{n}"))
    for _ in range(3):
        await box.announce("alice")
    await replica.enqueue()
    claimed = await replica.claim()
    outcomes = ["sent", "gone", "failed", "sent"]
    async with held(any_dsn, query):
        begun = monotonic()
        for n, one in enumerate(claimed):
            assert await replica.tell(one, outcomes[n % 4])
        assert monotonic() - begun < 4

        assert await box.value("select count(*) from deliveries where finished_at is null") == 0
        assert await box.value("select count(*) from attempts where outcome is null") == 0


async def test_what_follows_for_a_held_row_is_tried_again(
    any_dsn: str, box: Outbox, replica: Replica
) -> None:
    await box.subscribe("alice", browser("0"))
    await box.announce("alice")
    await replica.enqueue()
    [claimed] = await replica.claim()
    recorded, _ = await replica.store.record(told(claimed))
    settling = replica.store.settling

    async with held(any_dsn, HELD["subscription"]):
        left = await settling.follow_up(recorded)
    assert left == recorded
    assert await settling.follow_up(left) == []

    assert await box.value("select not is_active from push_subscriptions")
    assert await box.value("select status from notification_history") == "failed"
    assert await box.books(enqueued=1) == []


async def test_a_claim_does_not_wait_for_a_held_notification(
    any_dsn: str, box: Outbox, replica: Replica
) -> None:
    await box.subscribe("alice", browser("0"))
    await box.announce("alice")
    await box.announce("alice")
    await replica.enqueue()
    await box.connection.execute(
        "update deliveries set expires_at = now() where id = (select min(id) from deliveries)"
    )
    async with held(any_dsn, HELD["notification"]):
        async with asyncio.timeout(2):
            assert len(await replica.claim()) == 1


@pytest.mark.parametrize("query", HELD.values(), ids=HELD)
async def test_a_held_row_costs_no_lease(query: str, dsn: str) -> None:
    """Of a hundred messages acknowledged together none is sent twice."""
    async with connected(dsn) as connection:
        box = Outbox(connection)
        for n in range(100):
            await box.subscribe("alice", endpoint(n, f"{n % 10}.example"))
        await box.announce("alice")
        go = asyncio.Event()

        async def answer(claimed: Claimed) -> Outcome:
            await go.wait()
            return SENT

        recorder = Recorder(answer)
        async with station(dsn, {"webpush": recorder}, lease=1.5, needs=0.5):
            await eventually(lambda: len(recorder.sent) == 100)
            async with held(dsn, query):
                go.set()
                await asyncio.sleep(2.5)  # longer than the lease
            await eventually(box.closed)
            await eventually(lambda: box.value(ALL_TOUCHED))

        assert len(recorder.sent) == 100
        assert await box.outcomes() == {"sent": 100}
        assert await box.books(enqueued=100) == []


@pytest.mark.parametrize("table", ["deliveries order by id", "attempts order by delivery_id"])
async def test_a_held_delivery_costs_no_other_lease(table: str, dsn: str) -> None:
    """Of a hundred messages acknowledged together only the one that is held may be sent twice.

    The same if somebody holds the row of its attempt.
    """
    async with outbox(dsn) as box:
        for n in range(100):
            await box.subscribe("alice", endpoint(n, f"{n % 10}.example"))
        await box.announce("alice")
        go = asyncio.Event()

        async def answer(claimed: Claimed) -> Outcome:
            await go.wait()
            return SENT

        recorder = Recorder(answer)
        async with station(dsn, {"webpush": recorder}, lease=4.0, needs=0.5):
            await eventually(lambda: len(recorder.sent) == 100)
            async with held(dsn, f"select from {table} limit 1 for update"):
                go.set()
                await asyncio.sleep(5.0)  # longer than the lease
                assert await box.statuses() == {"sent": 99, "leased": 1}
            await eventually(box.closed)

        assert await box.outcomes() == {"sent": 100, "unknown": 1}
        assert await box.books(enqueued=100) == []


async def test_a_held_pause_costs_no_lease_and_is_kept_nevertheless(dsn: str) -> None:
    throttled = Outcome("retry", 429, "throttled", 60.0, origin_pause=True, counts=False)

    async def answer(claimed: Claimed) -> Outcome:
        return throttled if claimed.origin == "https://0.example" else SENT

    async with outbox(dsn) as box:
        for n in range(4):
            await box.subscribe("alice", endpoint(n, f"{n}.example"))
        await box.rows("insert into delivery_pauses values ('https://0.example', now(), 'old')")
        async with station(dsn, {"webpush": Recorder(answer)}):
            async with held(dsn, "select from delivery_pauses for update"):
                await box.announce("alice")
                await eventually(
                    lambda: box.value("select count(outcome) = 4 from attempts"), timeout=5
                )
            await eventually(
                lambda: box.value("select until > now() + interval '50 s' from delivery_pauses")
            )
        assert await box.outcomes() == {"sent": 3, "retry": 1}


async def test_a_lease_whose_attempt_was_deleted_ends_too(box: Outbox, replica: Replica) -> None:
    await box.subscribe("alice", browser("alice"))
    await box.announce("alice")
    await replica.enqueue()
    await replica.claim()
    await box.rows("delete from attempts")
    await box.rows("update deliveries set lease_until = now() - interval '1 s'")

    assert await replica.store.reap() == 0
    assert await replica.store.reap(thorough=True) == 1
    assert await box.statuses() == {"pending": 1}


async def test_a_held_row_holds_up_no_reaping(any_dsn: str, box: Outbox, replica: Replica) -> None:
    for name in ("alice", "bob"):
        await box.subscribe(name, browser(name))
        await box.announce(name)
    await replica.enqueue()
    assert len(await replica.claim()) == 2
    await box.rows("update deliveries set lease_until = now() - interval '1 s'")
    await box.rows("insert into delivery_pauses values ('https://0.example', now(), 'old')")
    query = "select from delivery_pauses, (select from attempts limit 1 for update) a for update"
    async with held(any_dsn, query):
        async with asyncio.timeout(5):
            assert await replica.store.reap() == 1
    assert await replica.store.reap() == 1
    assert await box.outcomes() == {"unknown": 2}


async def test_what_became_of_a_held_delivery_is_recorded_when_it_is_free(dsn: str) -> None:
    async with outbox(dsn) as box:
        await box.subscribe("alice", endpoint(0))
        await box.announce("alice")
        go = asyncio.Event()

        async def answer(claimed: Claimed) -> Outcome:
            await go.wait()
            return SENT

        recorder = Recorder(answer)
        async with station(dsn, {"webpush": recorder}) as at:
            await eventually(lambda: recorder.sent)
            async with held(dsn, "select from deliveries for update"):
                go.set()
                await asyncio.sleep(0.6)
            await eventually(box.closed)

        assert len(recorder.sent) == 1
        assert at.counted() == {"sent": 1}
        assert await box.books(enqueued=1) == []


async def test_an_end_that_nobody_wrote_down_is_found(box: Outbox, replica: Replica) -> None:
    for n in range(2):
        await box.subscribe("alice", browser(f"{n}"))
    sent, failed, open_ = [await box.announce("alice") for _ in range(3)]
    await replica.enqueue()
    await box.connection.execute("update notification_history set enqueued_at = '2020-01-01'")
    settler = Settler(replica.store.settling)
    await settler.forgotten()
    assert (
        await box.value("select count(*) from notification_history where status = 'pending'") == 3
    )

    partly = False
    for one in await replica.claim():
        if one.message.notification_id == str(sent):
            await replica.store.record(told(one, "sent"))
        elif one.message.notification_id == str(failed):
            await replica.store.record(told(one, "failed"))
        elif not partly:
            partly = True
            await replica.store.record(told(one, "failed"))
    await settler.forgotten()

    found = {r["id"]: r["status"] for r in await box.rows("select * from notification_history")}
    assert (found[sent], found[failed], found[open_]) == ("sent", "failed", "pending")


async def test_a_message_whose_deliveries_were_deleted_is_delivered_anew(
    box: Outbox, replica: Replica
) -> None:
    await box.subscribe("alice", browser("0"))
    await box.announce("alice")
    await replica.enqueue()
    await box.connection.execute(
        "update notification_history set enqueued_at = now() - interval '1 minute'"
    )
    await box.connection.execute("delete from deliveries")

    await Settler(replica.store.settling).forgotten()
    assert await replica.enqueue() == 1
    [claimed] = await replica.claim()
    assert await replica.tell(claimed)

    assert await box.books(enqueued=1) == []


async def test_all_open_notifications_are_looked_at_in_turn(box: Outbox, replica: Replica) -> None:
    await box.subscribe("alice", browser("0"))
    for _ in range(7):
        await box.announce("alice")
    await replica.enqueue()
    await box.connection.execute("update notification_history set enqueued_at = '2020-01-01'")
    await box.connection.execute(
        "update deliveries set status = 'failed', finished_at = now() "
        "where id = (select max(id) from deliveries)"
    )
    after = START
    for _ in range(3):
        after = await replica.store.settling.settle_forgotten(after, 3)

    assert after == START
    assert await box.value("select count(*) from notification_history where status = 'failed'") == 1


OPEN = "select count(*) from notification_history where status = 'pending'"
ALL_TOUCHED = "select count(*) = 0 from push_subscriptions where last_success_at is null"
