"""The dead man's switch is pinged while rounds go well, and holds up none."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator

import pytest

from quotabell import log
from quotabell.channels.ping import Pinger
from quotabell.metrics import Metrics
from quotabell.service.heartbeat import Heartbeat
from tests.support.receiver import Receiver, Reply
from tests.support.waiting import eventually


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@contextlib.asynccontextmanager
async def beating(
    url: str, every: float = 0.0, said: io.StringIO | None = None
) -> AsyncIterator[tuple[Heartbeat, Metrics]]:
    metrics = Metrics()
    logger = log.configure("info", stream=said or io.StringIO()).get_logger()
    async with Pinger() as pinger:
        heartbeat = Heartbeat(url, pinger, metrics, logger, every=every)
        task = asyncio.create_task(heartbeat.run())
        try:
            yield heartbeat, metrics
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def pings(metrics: Metrics, outcome: str) -> float:
    name = "quotabell_heartbeat_pings_total"
    return metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


async def test_each_good_round_is_a_ping_without_a_body(receiver: Receiver) -> None:
    async with beating(f"{receiver.origin}/ping/CANARY?a=b") as (heartbeat, metrics):
        for n in (1, 2, 3):
            heartbeat.note(True)
            await eventually(lambda n=n: pings(metrics, "sent") == n)

    assert [call.path for call in receiver.calls] == ["/ping/CANARY?a=b"] * 3
    assert {call.body for call in receiver.calls} == {b""}


async def test_many_rounds_are_few_pings(receiver: Receiver) -> None:
    async with beating(receiver.origin, every=3600) as (heartbeat, _):
        heartbeat.note(True)
        await receiver.wait(1)
        for _ in range(100):
            heartbeat.note(True)
            await asyncio.sleep(0)

        assert len(receiver.calls) == 1


async def test_a_round_that_failed_takes_back_a_ping_that_waits(receiver: Receiver) -> None:
    async with beating(receiver.origin, every=0.2) as (heartbeat, metrics):
        heartbeat.note(True)
        await eventually(lambda: pings(metrics, "sent") == 1)
        heartbeat.note(True)
        heartbeat.note(False)
        await asyncio.sleep(0.4)  # longer than it would have waited
        assert len(receiver.calls) == 1

        heartbeat.note(True)
        await receiver.wait(2)


async def test_a_switch_that_fails_is_told_once_and_without_its_url(receiver: Receiver) -> None:
    said = io.StringIO()
    receiver.script(
        Reply(500), Reply(302, {"Location": f"{receiver.origin}/elsewhere"}), Reply(404)
    )
    async with beating(f"{receiver.origin}/CANARY", said=said) as (heartbeat, metrics):
        for calls in (1, 2, 3, 4):
            heartbeat.note(True)
            await receiver.wait(calls)
        await eventually(lambda: pings(metrics, "sent") == 1)

    assert {call.path for call in receiver.calls} == {"/CANARY"}
    assert (pings(metrics, "retry"), pings(metrics, "failed")) == (2, 1)
    assert said.getvalue().count("the heartbeat is not accepted") == 1
    assert said.getvalue().count("the heartbeat is accepted again") == 1
    assert "CANARY" not in said.getvalue()


async def test_a_switch_that_hangs_or_is_away_holds_up_nobody(receiver: Receiver) -> None:
    receiver.always = Reply(hang=True)
    async with beating(receiver.origin) as (heartbeat, _):
        heartbeat.note(True)
        await receiver.wait(1)
        heartbeat.note(True)
        heartbeat.note(False)
    async with beating("http://127.0.0.1:1/") as (heartbeat, metrics):
        heartbeat.note(True)
        await eventually(lambda: pings(metrics, "retry") == 1)


async def test_without_a_url_nothing_is_pinged() -> None:
    async with beating("") as (heartbeat, metrics):
        heartbeat.note(True)
        await asyncio.sleep(0)
        assert not metrics.registry.get_sample_value("quotabell_heartbeat_pings_total")
