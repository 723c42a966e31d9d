"""Delivery at work: real database, and where it matters a push service that decrypts."""

from __future__ import annotations

import asyncio
import email.utils
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from quotabell.domain.outcome import Outcome
from quotabell.service.deliver import Sender
from quotabell.store.delivery import Claimed
from tests.service.station import KEY, SENT, Recorder, endpoint, station, web_push
from tests.support.outbox import Outbox, outbox
from tests.support.postgres import connected
from tests.support.push_browser import Browser
from tests.support.pushservice import Answer, PushService
from tests.support.waiting import eventually

RETRY_LATER = "retry, then sent"


@pytest.fixture
async def box(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox(dsn) as box:
        yield box


@pytest.fixture
async def push() -> AsyncIterator[PushService]:
    async with PushService() as push:
        yield push


@pytest.fixture
async def senders(push: PushService) -> AsyncIterator[dict[str, Sender]]:
    async with web_push(push.origin) as senders:
        yield senders


async def subscribed(box: Outbox, push: PushService, user: str = "alice") -> Browser:
    browser = push.subscribe(KEY.public)
    await box.subscribe(user, browser.subscription, key=KEY.id)
    return browser


# --- the message ---------------------------------------------------------------------------


async def test_a_message_arrives_as_it_was_announced(
    dsn: str, box: Outbox, push: PushService, senders: dict[str, Sender]
) -> None:
    await subscribed(box, push)
    data = {"stateId": "s-1", "quota": "q", "provider": "openai", "model": "gpt-5"}
    async with station(dsn, senders) as at:
        await box.announce("alice", data=data | {"percentage": 90.25})
        at.deliverer.wake()
        await push.wait(1)
        await eventually(box.closed)

    [arrival] = push.arrivals
    assert arrival.problems == []
    assert arrival.message == {
        "title": "openai / gpt-5 is at 90 %",
        "body": "90 of 100 tokens",
        "tag": "s-1:threshold",
        "state": "firing",
        "kind": "threshold",
        "threshold": 90.0,
        "percentage": 90.25,
        "quota": "q",
        "provider": "openai",
        "model": "gpt-5",
        "url": "/?state=s-1",
    }
    assert arrival.headers["urgency"] == "high"
    assert 86_000 < int(arrival.headers["ttl"]) <= 86_400
    assert len(arrival.headers["topic"]) == 32
    assert at.counted() == {"sent": 1}
    assert await box.books(enqueued=1) == []


async def test_what_is_sent_again_replaces_nothing(
    dsn: str, box: Outbox, push: PushService, senders: dict[str, Sender]
) -> None:
    await subscribed(box, push)
    await box.announce("alice", data={"stateId": "s-1"})
    again = await box.announce("alice", data={"stateId": "s-1", "resendOf": "x"})
    async with station(dsn, senders):
        await push.wait(2)
        await eventually(box.closed)

    assert {m["tag"] for m in push.messages} == {"s-1:threshold", f"{again}:threshold"}
    assert len({arrival.headers["topic"] for arrival in push.arrivals}) == 2


async def test_odd_facts_are_left_out_of_a_message(
    dsn: str, box: Outbox, push: PushService, senders: dict[str, Sender]
) -> None:
    await subscribed(box, push)
    for data in ({"quota": {"a": 1}, "percentage": "x", "stateId": 5, "model": None}, ["x"], "x"):
        await box.announce("alice", data=data)
    async with station(dsn, senders):
        await push.wait(3)
        await eventually(box.closed)

    assert {m["quota"] for m in push.messages} == {""}
    assert {m["percentage"] for m in push.messages} == {None}
    assert {m["url"] for m in push.messages} == {"/"}


# --- what push services answer -------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "status", "outcomes"),
    [
        ([Answer(200)], "sent", ["sent"]),
        ([Answer(201)], "sent", ["sent"]),
        ([Answer(202)], "sent", ["sent"]),
        ([Answer(301, {"Location": "/elsewhere"})], "failed", ["failed"]),
        ([Answer(307, {"Location": "/elsewhere"})], "failed", ["failed"]),
        ([Answer(400)], "failed", ["failed"]),
        ([Answer(401)], "sent", ["sent"]),  # with another token, in the same attempt
        ([Answer(403), Answer(403)], "sent", ["retry", "sent"]),
        ([Answer(404)], "failed", ["gone"]),
        ([Answer(410)], "failed", ["gone"]),
        ([Answer(413)], "sent", ["sent"]),  # the short form, in the same attempt
        ([Answer(413), Answer(413)], "failed", ["failed"]),
        ([Answer(429)], "sent", ["retry", "sent"]),
        ([Answer(500)], "sent", ["retry", "sent"]),
        ([Answer(502)], "sent", ["retry", "sent"]),
        ([Answer(503), Answer(503)], "sent", ["retry", "retry", "sent"]),
        ([Answer(fault="reset")], "sent", ["retry", "sent"]),
        ([Answer(fault="garbage")], "sent", ["retry", "sent"]),
        ([Answer(fault="half")], "sent", ["sent"]),  # the status was said
    ],
    ids=lambda value: (
        "-".join(f"{a.status if not a.fault else a.fault}" for a in value)
        if isinstance(value, list) and isinstance(value[0], Answer)
        else ""
    ),
)
async def test_an_answer_is_acted_upon_and_costs_nobody_else(
    answers: list[Answer],
    status: str,
    outcomes: list[str],
    dsn: str,
    box: Outbox,
    push: PushService,
    senders: dict[str, Sender],
) -> None:
    browser, bystander = await subscribed(box, push), await subscribed(box, push)
    push.script(*answers, to=browser)
    async with station(dsn, senders) as at:
        await box.announce("alice")
        at.deliverer.wake()
        await eventually(box.closed)

    rows = await box.rows(
        "select d.*, s.is_active, s.subscription ->> 'endpoint' as endpoint, "
        "array(select outcome from attempts a where a.delivery_id = d.id order by n) as outcomes "
        "from deliveries d join push_subscriptions s on s.id = d.target::uuid"
    )
    found = {row["endpoint"]: row for row in rows}
    own, others = found[browser.endpoint], found[bystander.endpoint]
    assert (own["status"], own["outcomes"]) == (status, outcomes)
    assert own["is_active"] == ("gone" not in outcomes)
    assert (others["status"], others["outcomes"], others["is_active"]) == ("sent", ["sent"], True)
    assert push.followed == []
    assert push.problems == []
    assert await box.books(enqueued=2) == []
    assert sum(at.counted().values()) == len(outcomes) + 1


async def test_a_service_that_does_not_answer_is_asked_again(
    dsn: str, box: Outbox, push: PushService, senders: dict[str, Sender]
) -> None:
    browser = await subscribed(box, push)
    push.script(Answer(fault="hang"), to=browser)
    message = await box.announce("alice")
    async with station(dsn, senders):
        await eventually(box.closed, timeout=15)

    first, second = await box.attempts(message)
    assert (first["outcome"], first["reason"]) == ("retry", "timeout")
    assert second["outcome"] == "sent"


@pytest.mark.parametrize("status", [429, 503, 406])
@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_nobody_is_asked_again_before_the_time_he_named(
    status: int, form: str, dsn: str, box: Outbox, push: PushService, senders: dict[str, Sender]
) -> None:
    browser = await subscribed(box, push)
    named = time.time() + 2.0
    said = "2" if form == "seconds" else email.utils.formatdate(named, usegmt=True)
    push.script(Answer(status, {"Retry-After": said}), to=browser)
    async with station(dsn, senders) as at:
        await box.announce("alice")
        at.deliverer.wake()
        first, second = await push.wait(2)

    if form == "seconds":
        assert 2.0 <= second.at - first.at < 4.5
    else:
        assert time.time() - (time.monotonic() - second.at) >= int(named)


async def test_while_an_origin_pauses_no_replica_sends_there(
    dsn: str, box: Outbox, push: PushService, senders: dict[str, Sender]
) -> None:
    browsers = [await subscribed(box, push, f"user-{n}") for n in range(4)]
    push.script(Answer(429, {"Retry-After": "2"}), to=browsers[0])
    async with station(dsn, senders) as one, station(dsn, senders, worker="other") as other:
        await box.announce("user-0")
        one.deliverer.wake()
        await eventually(lambda: box.value("select count(*) from delivery_pauses"))
        for n in range(1, 4):
            await box.announce(f"user-{n}")
        for at in (one, other):
            at.deliverer.wake()
        first, *later = await push.wait(5)

    assert min(arrival.at for arrival in later) - first.at >= 2.0


async def test_tries_end_after_a_dozen(
    dsn: str, box: Outbox, push: PushService, senders: dict[str, Sender]
) -> None:
    await subscribed(box, push)
    push.always = Answer(500)
    message = await box.announce("alice")
    async with station(dsn, senders) as at:
        await eventually(box.closed, timeout=30)

    delivery = await box.delivery(message)
    assert (delivery["status"], delivery["tries"], delivery["counted"]) == ("failed", 12, 12)
    assert len(push.arrivals) == 12
    assert at.counted() == {"retry": 12}
    assert await box.value("select status from notification_history") == "failed"


async def test_being_throttled_does_not_count_as_a_try(
    dsn: str, box: Outbox, push: PushService, senders: dict[str, Sender]
) -> None:
    browser = await subscribed(box, push)
    push.script(*[Answer(429)] * 14, to=browser)
    message = await box.announce("alice")
    async with station(dsn, senders):
        await eventually(box.closed, timeout=40)

    delivery = await box.delivery(message)
    assert (delivery["status"], delivery["tries"], delivery["counted"]) == ("sent", 15, 1)


async def test_a_try_that_would_come_too_late_is_not_waited_for(
    dsn: str, box: Outbox, push: PushService, senders: dict[str, Sender]
) -> None:
    browser = await subscribed(box, push)
    push.script(Answer(503, {"Retry-After": "90000"}), to=browser)
    async with station(dsn, senders) as at:
        await box.announce("alice")
        at.deliverer.wake()
        await eventually(box.closed)

    assert await box.statuses() == {"expired": 1}
    assert at.counted() == {"retry": 1, "expired": 1}
    assert await box.books(enqueued=1) == []


# --- poison --------------------------------------------------------------------------------

POISON: list[Any] = [
    None,
    5,
    "text",
    [],
    {},
    {"endpoint": 5},
    {"endpoint": {"a": 1}, "keys": {}},
    {"endpoint": "ORIGIN/x"},
    {"endpoint": "ORIGIN/x", "keys": None},
    {"endpoint": "ORIGIN/x", "keys": "x"},
    {"endpoint": "ORIGIN/x", "keys": {"p256dh": 5, "auth": []}},
    {"endpoint": "ORIGIN/x", "keys": {"p256dh": "", "auth": ""}},
    {"endpoint": "ORIGIN/x", "keys": {"p256dh": "BA" + "A" * 85, "auth": "A" * 22}},
    {"endpoint": "ORIGIN/" + "x" * 100_000, "keys": {"p256dh": "x", "auth": "y"}},
    {"endpoint": "https://" + "x" * 100_000, "keys": {"p256dh": "x", "auth": "y"}},
    {"endpoint": "ORIGIN/\n\r\t\u202e", "keys": {"p256dh": "\u0001", "auth": "é"}},
    {"endpoint": "file:///etc/passwd", "keys": {"p256dh": "x", "auth": "y"}},
]


async def test_a_poisoned_subscription_costs_its_own_delivery_alone(
    dsn: str, box: Outbox, push: PushService, senders: dict[str, Sender]
) -> None:
    for n, shape in enumerate(POISON):
        text = json.dumps(shape).replace("ORIGIN", f"{push.origin}/{n}")
        await box.subscribe("alice", json.loads(text))
    await box.connection.execute("update push_subscriptions set is_active = true")
    good = await subscribed(box, push)
    async with station(dsn, senders) as at:
        for _ in range(2):
            await box.announce("alice")
        at.deliverer.wake()
        await eventually(box.closed)

    assert await box.statuses() == {"sent": 2, "failed": 2 * len(POISON)}
    assert await box.outcomes() == {"sent": 2, "failed": 2 * len(POISON)}
    assert len(push.of(good)) == len(push.arrivals) == 2
    assert push.followed == []
    assert "unforeseen" not in at.log.getvalue()
    assert await box.books() == []


async def test_a_sender_that_breaks_costs_its_own_delivery_alone(dsn: str, box: Outbox) -> None:
    async def answer(claimed: Claimed) -> Outcome:
        if claimed.id % 2:
            raise ZeroDivisionError("secret")
        return SENT

    for n in range(10):
        await box.subscribe("alice", endpoint(n))
    await box.announce("alice")
    async with station(dsn, {"webpush": Recorder(answer)}) as at:
        await eventually(box.closed)

    assert await box.statuses() == {"sent": 5, "failed": 5}
    assert (
        await box.value(
            "select count(*) from attempts where reason = 'internal: ZeroDivisionError'"
        )
        == 5
    )
    assert at.counted() == {"sent": 5, "failed": 5}


async def test_a_message_that_cannot_be_delivered_is_given_up_alone(dsn: str, box: Outbox) -> None:
    await box.connection.execute("alter table deliveries add check (seq <> 13)")
    await box.subscribe("alice", endpoint(1))
    for seq in range(11, 16):  # of an alert each; more would be one message about many
        await box.announce("alice", alert=await box.alert("alice"), seq=seq)
    async with station(dsn, {"webpush": Recorder()}) as at:
        await eventually(box.closed)

    assert await box.statuses() == {"sent": 4}
    assert await box.value("select seq from notification_history where status = 'failed'") == 13
    assert "a notification cannot be delivered" in at.log.getvalue()


async def test_a_channel_that_is_not_there_fails_its_deliveries(dsn: str, box: Outbox) -> None:
    await box.subscribe("alice", endpoint(1))
    await box.announce("alice")
    async with station(dsn, {}):
        await eventually(box.closed)

    assert await box.value("select reason from attempts") == "internal: KeyError"


# --- the database, start and stop ----------------------------------------------------------


async def test_outcomes_survive_a_lost_connection(dsn: str, box: Outbox) -> None:
    async def answer(claimed: Claimed) -> Outcome:
        async with connected(dsn) as another:  # the box is asked all the time
            await another.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity "
                "where application_name = 'quotabell' and datname = current_database()"
            )
        return SENT

    await box.subscribe("alice", endpoint(1))
    await box.announce("alice")
    recorder = Recorder(answer)
    async with station(dsn, {"webpush": recorder}):
        await eventually(box.closed)

    assert len(recorder.sent) == 1
    assert await box.outcomes() == {"sent": 1}


async def test_closing_finishes_what_is_under_way_and_begins_nothing(dsn: str, box: Outbox) -> None:
    going_on = asyncio.Event()

    async def answer(claimed: Claimed) -> Outcome:
        await going_on.wait()
        return SENT

    for n in range(3):
        await box.subscribe("alice", endpoint(n))
    await box.announce("alice")
    recorder = Recorder(answer)
    async with station(dsn, {"webpush": recorder}) as at:
        await eventually(lambda: len(recorder.sent) == 3)
        closing = asyncio.create_task(at.deliverer.close())
        await asyncio.sleep(0.05)
        await box.announce("alice")
        at.deliverer.wake()
        await asyncio.sleep(0.2)
        assert not closing.done()
        going_on.set()
        await closing

    assert len(recorder.sent) == 3
    assert await box.outcomes() == {"sent": 3}
    assert await box.books(enqueued=3) == []


async def test_what_was_claimed_and_not_begun_is_given_back_when_closing(
    dsn: str, box: Outbox
) -> None:
    for n in range(60):
        await box.subscribe("alice", endpoint(n))
    await box.announce("alice")
    recorder = Recorder()
    closing: list[asyncio.Task[None]] = []

    async with station(dsn, {"webpush": recorder}) as at:

        async def answer(claimed: Claimed) -> Outcome:
            if not closing:
                closing.append(asyncio.create_task(at.deliverer.close()))
            return SENT

        recorder.answer = answer
        await eventually(lambda: closing)
        await closing[0]

    sent = len(recorder.sent)
    assert 0 < sent < 60
    assert await box.statuses() == {"sent": sent, "pending": 60 - sent}
    assert await box.outcomes() == {"sent": sent}
    assert await box.books(enqueued=60) == []


async def test_the_gauges_are_what_the_database_says(dsn: str, box: Outbox) -> None:
    async def answer(claimed: Claimed) -> Outcome:
        return Outcome("retry", 503, "server_error", 60.0)

    for n in range(5):
        await box.subscribe("alice", endpoint(n))
    await box.announce("alice")
    async with station(dsn, {"webpush": Recorder(answer)}) as at:
        await eventually(lambda: at.counted() == {"retry": 5})
        await at.deliverer.measure()
        assert at.value("quotabell_deliveries_pending") == 5
        assert at.value("quotabell_delivery_oldest_due_seconds") == 0
        await box.connection.execute("update deliveries set due = now() + interval '1 h'")
        await box.connection.execute(
            "update deliveries set status = 'expired', finished_at = now() where id % 5 = 0"
        )
        await at.deliverer.measure()
        assert at.value("quotabell_deliveries_pending") == 4


async def test_no_secret_is_logged_counted_or_kept(
    dsn: str, box: Outbox, push: PushService, senders: dict[str, Sender]
) -> None:
    faults = [
        Answer(404, body=b"canary-0123"), Answer(400, body=b'{"reason": "canary-0123"}'),
        Answer(500), Answer(429, {"Retry-After": "0"}), Answer(401), Answer(413),
        Answer(fault="reset"),
        Answer(301, {"Location": "https://canary-0123.example/"}),
        Answer(410, {"X-WNS-ERROR-DESCRIPTION": "canary-0123"}),
    ]  # fmt: skip
    browsers = []
    for answer in faults:
        browsers.append(await subscribed(box, push))
        push.script(answer, to=browsers[-1])
    await box.subscribe("alice", {"endpoint": "https://evil.example/canary-0123", "keys": {}})
    await box.subscribe(
        "alice", browsers[0].subscription | {"endpoint": push.origin + "/canary-0123"}
    )
    async with station(dsn, senders) as at:
        await box.announce("alice")
        at.deliverer.wake()
        await eventually(box.closed, timeout=20)
        tables = ("notification_history", "deliveries", "attempts", "delivery_pauses")
        kept = [str(await box.rows(f"select * from {table}")) for table in tables]
        said = at.log.getvalue() + at.metrics.render() + "".join(kept)

    headers = {
        a.headers["authorization"].partition("t=")[2].partition(",")[0] for a in push.arrivals
    }
    secrets = ["canary-0123", *headers]
    for browser in browsers:
        secrets += [browser.token, *browser.subscription["keys"].values()]
    assert "attempt not successful" in said
    assert [secret for secret in secrets if secret in said] == []
