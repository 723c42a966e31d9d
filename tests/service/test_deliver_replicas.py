"""Replicas that share the deliveries of one database, in order, each within its lease."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from quotabell.domain.outcome import Fault, Outcome, unreachable
from quotabell.service.origins import PER_ORIGIN
from quotabell.store.delivery import Claimed
from tests.service.station import KEY, SENT, Recorder, endpoint, station, web_push
from tests.support.outbox import Outbox, outbox
from tests.support.pushservice import Answer, PushService
from tests.support.waiting import eventually


@pytest.fixture
async def box(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox(dsn) as box:
        yield box


# --- replicas, leases and order ------------------------------------------------------------


async def test_two_replicas_send_two_thousand_deliveries_once_each(dsn: str, box: Outbox) -> None:
    for n in range(100):
        await box.subscribe("alice", endpoint(n, f"push-{n % 7}.example"))
    for _ in range(20):
        await box.announce("alice")
    chance = random.Random(1)

    async def answer(claimed: Claimed) -> Outcome:
        await asyncio.sleep(chance.uniform(0, 0.005))
        return SENT

    recorder = Recorder(answer)
    async with (
        station(dsn, {"webpush": recorder}, worker="one") as one,
        station(dsn, {"webpush": recorder}, worker="two") as two,
    ):
        await eventually(box.closed, timeout=30)

    assert len(recorder.ids) == len(set(recorder.ids)) == 2000
    assert await box.outcomes() == {"sent": 2000}
    workers = await box.rows("select worker, count(*) as n from attempts group by worker")
    assert {row["worker"] for row in workers} == {"one", "two"}
    assert one.counted()["sent"] + two.counted()["sent"] == 2000
    assert await box.books(enqueued=2000) == []


async def test_whatever_happens_an_older_message_never_follows_a_newer_one(
    dsn: str, box: Outbox
) -> None:
    chance = random.Random(2)

    async def answer(claimed: Claimed) -> Outcome:
        await asyncio.sleep(chance.uniform(0, 0.01))
        return chance.choice(
            [SENT, Outcome("retry", 503, "server_error", chance.uniform(0.0, 0.1), counts=False)]
        )

    # Of a user each: many for one target would be told in one message.
    alerts = {f"user-{n}": await box.alert(f"user-{n}") for n in range(10)}
    for n in range(50):
        await box.subscribe(f"user-{n % 10}", endpoint(n))
    recorder = Recorder(answer)
    async with (
        station(dsn, {"webpush": recorder}, worker="one") as one,
        station(dsn, {"webpush": recorder}, worker="two") as two,
    ):
        for seq in range(1, 9):
            for user, alert in alerts.items():
                last = "resolved" if seq == 8 else "firing"
                await box.announce(
                    user, alert=alert, seq=seq, transition=last, title=f"{alert} {seq}"
                )
            for at in (one, two):
                at.deliverer.wake()
            await asyncio.sleep(0.05)
        await eventually(box.closed, timeout=40)

    lanes: dict[tuple[str, str], list[int]] = {}
    for _, claimed in sorted(recorder.sent, key=lambda entry: entry[0]):
        alert, seq = claimed.message.title.split()
        lanes.setdefault((alert, claimed.target), []).append(int(seq))
    assert len(lanes) == 50
    for seqs in lanes.values():
        assert seqs == sorted(seqs)
        assert seqs[-1] == 8  # the last state is always told
    statuses = await box.statuses()
    assert set(statuses) <= {"sent", "superseded"}
    assert (
        one.counted().get("superseded", 0) + two.counted().get("superseded", 0)
        == (statuses["superseded"])
    )
    assert await box.books(enqueued=400) == []


async def test_what_is_said_after_the_lease_is_not_believed(dsn: str, box: Outbox) -> None:
    going_on = asyncio.Event()

    async def answer(claimed: Claimed) -> Outcome:
        if claimed.tries > 1:
            return SENT
        await going_on.wait()
        return Outcome("failed", 400, "bad_request")

    await box.subscribe("alice", endpoint(1))
    await box.announce("alice")
    senders = {"webpush": Recorder(answer)}
    options = {"lease": 0.5, "needs": 0.2}
    async with station(dsn, senders, **options) as one, station(dsn, senders, **options) as two:
        await eventually(box.closed)
        going_on.set()
        await eventually(lambda: "leases were lost" in one.log.getvalue() + two.log.getvalue())

    assert await box.statuses() == {"sent": 1}
    assert await box.outcomes() == {"unknown": 1, "sent": 1}
    assert sum(at.value("quotabell_delivery_unknown_total") for at in (one, two)) == 1
    assert one.counted() | two.counted() == {"sent": 1}
    assert await box.books(enqueued=1) == []


async def test_a_send_does_not_begin_with_too_little_of_its_lease_left(
    dsn: str, box: Outbox
) -> None:
    stalls = itertools.count()

    def stall(point: str) -> None:
        if point == "after_claim" and next(stalls) < 2:
            time.sleep(0.4)  # as a stopped process would

    for n in range(3):
        await box.subscribe("alice", endpoint(n))
    await box.announce("alice")
    recorder = Recorder()
    async with station(dsn, {"webpush": recorder}, lease=1.0, needs=0.8, fault=stall):
        await eventually(box.closed)

    assert next(stalls) >= 2
    assert await box.outcomes() == {"sent": 3}  # what was given back left no trace
    assert len(recorder.sent) == 3
    assert await box.books(enqueued=3) == []


async def test_a_restarted_replica_takes_up_what_it_was_sending(dsn: str, box: Outbox) -> None:
    await box.subscribe("alice", endpoint(1))
    await box.announce("alice")
    async with station(dsn, {"webpush": Recorder(lambda _: asyncio.Event().wait())}) as killed:  # type: ignore[arg-type, return-value]
        await eventually(lambda: box.value("select exists (select from attempts)"))
        killed.deliverer.close = nothing  # type: ignore[method-assign]

    async with station(dsn, {"webpush": Recorder()}) as restarted:
        await eventually(box.closed, timeout=5)  # not after the 30 seconds of its lease

    assert await box.outcomes() == {"unknown": 1, "sent": 1}
    assert restarted.value("quotabell_delivery_unknown_total") == 1


async def nothing() -> None:
    pass


# --- isolation -----------------------------------------------------------------------------


async def test_an_origin_that_hangs_holds_up_nobody_else(dsn: str, box: Outbox) -> None:
    async def answer(claimed: Claimed) -> Outcome:
        if claimed.origin == "https://sick.example":
            await asyncio.Event().wait()
        return SENT

    for n in range(2 * PER_ORIGIN):
        await box.subscribe("alice", endpoint(n, "sick.example"))
        await box.subscribe("alice", endpoint(n, "sound.example"))
    recorder = Recorder(answer)
    await box.announce("alice")
    async with station(dsn, {"webpush": recorder}) as at:

        def begun() -> int:
            return sum(c.origin == "https://sick.example" for _, c in recorder.sent)

        await eventually(lambda: begun() == PER_ORIGIN, timeout=8)
        await eventually(lambda: at.counted().get("sent") == 2 * PER_ORIGIN, timeout=8)
        assert begun() == PER_ORIGIN
        for task in list(at.deliverer._working):
            task.cancel()


async def test_an_origin_without_answers_is_left_alone_for_a_while(dsn: str, box: Outbox) -> None:
    async def answer(claimed: Claimed) -> Outcome:
        sick = claimed.origin == "https://sick.example"
        return unreachable(Fault.CONNECT_TIMEOUT) if sick else SENT

    for n in range(50):
        await box.subscribe("alice", endpoint(n, "sick.example"))
    await box.subscribe("alice", endpoint(1, "sound.example"))
    recorder = Recorder(answer)
    await box.announce("alice")
    async with station(dsn, {"webpush": recorder}):
        await eventually(lambda: box.value("select exists (select from delivery_pauses)"))
        await eventually(
            lambda: box.value("select not exists (select from deliveries where status = 'leased')")
        )
        begun = len(recorder.sent)
        await box.announce("alice")
        await eventually(lambda: len(recorder.sent) > begun)
        await asyncio.sleep(0.3)

    assert [c.origin for _, c in recorder.sent[begun:]] == ["https://sound.example"]
    [pause] = await box.rows("select * from delivery_pauses")
    assert (pause["origin"], pause["reason"]) == ("https://sick.example", "connect_timeout")


AWAY = "alter table attempts rename to gone; alter table delivery_pauses rename to paused"
BACK = "alter table gone rename to attempts; alter table paused rename to delivery_pauses"


@pytest.mark.parametrize("everyone", [True, False], ids=["origin", "browser"])
async def test_what_was_asked_for_outlives_an_outage_longer_than_the_lease(
    everyone: bool, dsn: str, box: Outbox
) -> None:
    async def answer(claimed: Claimed) -> Outcome:
        if len(recorder.sent) > 1:
            return SENT
        await box.connection.execute(AWAY)
        return Outcome("retry", 429, "throttled", 4.0, origin_pause=everyone, counts=False)

    await box.subscribe("alice", endpoint(1))
    await box.announce("alice")
    recorder = Recorder(answer)
    async with station(dsn, {"webpush": recorder}, lease=1.0, needs=0.2) as at:
        await eventually(lambda: "outcomes given up" in at.log.getvalue())
        assert len(recorder.sent) == 1
        await box.connection.execute(BACK)
        await eventually(box.closed)

    (first, _), (second, _) = recorder.sent
    assert second - first >= 4.0
    assert await box.outcomes() == {"unknown": 1, "sent": 1}


# --- a replica that is stopped --------------------------------------------------------------


async def test_a_replica_that_slept_through_its_lease_is_not_believed(
    dsn: str, box: Outbox, tmp_path: Path
) -> None:
    async with PushService() as push, web_push(push.origin) as senders:
        browser = push.subscribe(KEY.public)
        await box.subscribe("alice", browser.subscription, key=KEY.id)
        await box.announce("alice")
        push.script(Answer(delay=0.3), to=browser)
        async with sleeper(dsn, push.origin, tmp_path / "log") as process:
            await push.wait(1)
            os.kill(process.pid, signal.SIGSTOP)
            async with station(dsn, senders, worker="live"):
                await push.wait(2)
                await eventually(box.closed)
                os.kill(process.pid, signal.SIGCONT)
                await eventually(lambda: "leases were lost" in (tmp_path / "log").read_text())
                await asyncio.sleep(0.5)

    assert len(push.arrivals) == 2
    assert await box.outcomes() == {"unknown": 1, "sent": 1}
    assert await box.value("select worker from attempts where outcome = 'sent'") == "live"
    assert await box.books(enqueued=1) == []


@contextlib.asynccontextmanager
async def sleeper(dsn: str, origin: str, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A replica as a process, with a lease of a second; see `tests.service.sleeper`."""
    with log.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.service.sleeper", dsn, origin),
            stdout=sink,
            stderr=sink,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()
