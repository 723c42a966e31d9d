"""Real Alertmanagers: what fires gets there, is told again, and ends; each replica by itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from quotabell import log
from quotabell.metrics import Metrics
from quotabell.service.channels import OperatorChannels
from quotabell.service.feed import AlertFeed
from quotabell.store.database import Database
from quotabell.store.feed import FeedStore
from quotabell.store.subjects import End, SubjectStore
from tests.service import test_channels as channels
from tests.service.test_channels import channel, configured, delivering
from tests.support.alertmanager import Alertmanager, alertmanager
from tests.support.bell import Bell
from tests.support.outbox import Outbox
from tests.support.receiver import Receiver
from tests.support.waiting import eventually

box, usage, receiver, pool, own = (
    channels.box,
    channels.usage,
    channels.receiver,
    channels.pool,
    channels.own,
)


@pytest.fixture
async def two(tmp_path: Path, receiver: Receiver) -> AsyncIterator[list[Alertmanager]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                alertmanager(tmp_path / f"am-{n}", f"{receiver.origin}/{n}")
            )
            for n in (1, 2)
        ]


@contextlib.asynccontextmanager
async def telling(pool: Database, own: OperatorChannels) -> AsyncIterator[AlertFeed]:
    logger = log.configure("error").get_logger()
    feed = AlertFeed(FeedStore(pool), own, Metrics(), logger, leading=lambda: True, every=0.2)
    task = asyncio.create_task(feed.run())
    try:
        yield feed
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def notified(receiver: Receiver, status: str) -> list[str]:
    """Which replicas have told of an alert with this status, one entry each time."""
    return sorted(c.path for c in receiver.calls if json.loads(c.body)["status"] == status)


async def test_an_alert_fires_and_ends_at_every_replica_once(
    dsn: str,
    box: Outbox,
    usage: Bell,
    receiver: Receiver,
    two: list[Alertmanager],
    pool: Database,
    own: OperatorChannels,
) -> None:
    found = [channel("alertmanager", am.url, name=f"am-{n}") for n, am in enumerate(two)]
    await configured(own, pool, *found)
    async with delivering(dsn, own), telling(pool, own):
        await usage.report(76, user="alice", model='odd "model" \\ \n 日本')
        await eventually(lambda: notified(receiver, "firing") == ["/1", "/2"], timeout=20)
        await usage.report(100, user="alice", model='odd "model" \\ \n 日本')
        for am in two:
            [alert] = await eventually(am.alerts)
            assert alert["labels"] == {
                "alertname": "QuotabellQuotaThreshold",
                "quota": "reported",
                "provider": "openai",
                "model": 'odd "model" \\ \n 日本',
                "user": "alice",
                "kind": "threshold",
            }
            await eventually(lambda am=am: _at_100(am))  # type: ignore[misc]
        await eventually(box.closed)
        assert await box.statuses() == {"sent": 4}

        await usage.report(1, user="alice", model='odd "model" \\ \n 日本')
        await eventually(lambda: notified(receiver, "resolved") == ["/1", "/2"], timeout=20)
        for am in two:
            await eventually(lambda am=am: _none(am))  # type: ignore[misc]
    assert notified(receiver, "firing") == ["/1", "/2"], "a higher level is the same alert"


async def test_what_fires_is_told_again_so_that_a_lost_alertmanager_learns_it(
    dsn: str,
    box: Outbox,
    usage: Bell,
    receiver: Receiver,
    tmp_path: Path,
    pool: Database,
    own: OperatorChannels,
) -> None:
    async with delivering(dsn, own):
        async with alertmanager(tmp_path / "lost", receiver.origin) as am:
            await configured(own, pool, channel("alertmanager", am.url))
            await usage.report(91)
            [first] = await eventually(am.alerts)
            await eventually(box.closed)
            async with telling(pool, own):
                await eventually(lambda: _ends_after(am, first["endsAt"]))
        async with alertmanager(tmp_path / "new", receiver.origin) as am:
            own.replace([channel("alertmanager", am.url)])
            async with telling(pool, own):
                [again] = await eventually(am.alerts)

    assert again["labels"] == first["labels"]
    assert again["startsAt"] == first["startsAt"]
    assert await box.statuses() == {"sent": 1}, "what is told again is no delivery"


async def test_alerts_about_sources_are_told_apart_by_their_names(
    receiver: Receiver, tmp_path: Path, pool: Database, own: OperatorChannels
) -> None:
    async with alertmanager(tmp_path / "am", receiver.origin) as am:
        high = channel("alertmanager", am.url, when={"min_percentage": 90})
        await configured(own, pool, high)
        store = SubjectStore(pool)
        async with telling(pool, own):
            await store.fire("channel", {"webhook ops": {}, "webpush": {}})
            titles = ["webhook ops does not work", "webpush does not work"]
            await eventually(lambda: _says(am, titles))
            labels = [alert["labels"] for alert in await am.alerts()]
            assert {"alertname": "QuotabellChannelFailing", "kind": "channel"}.items() <= (
                labels[0].items()
            )
            assert {label["channel"] for label in labels} == {"webhook ops", "webpush"}

            await store.resolve("channel", {"webpush": End("works again", {})})

            await eventually(lambda: _says(am, titles[:1]))


async def _says(am: Alertmanager, titles: list[str]) -> bool:
    return await am.firing() == titles


async def _at_100(am: Alertmanager) -> bool:
    return await am.firing() == ['openai / odd "model" \\ \n 日本 is at 100 %']


async def _none(am: Alertmanager) -> bool:
    return await am.alerts() == []


async def _ends_after(am: Alertmanager, before: str) -> bool:
    [alert] = await am.alerts()
    return bool(alert["endsAt"] > before)
