"""Deliveries to the operator's channels, at work: real database, real receivers."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from quotabell import log
from quotabell.config import Channel
from quotabell.metrics import Metrics
from quotabell.service.channels import OperatorChannels, row_of
from quotabell.service.feed import AlertFeed
from quotabell.store.channels import ChannelStore
from quotabell.store.database import Database
from quotabell.store.feed import FeedStore
from quotabell.ticks import ticks
from tests.channels.test_webhook import SECRETS
from tests.service.station import Station, station
from tests.support.bell import Bell, bell
from tests.support.outbox import Outbox, outbox
from tests.support.receiver import Receiver, Reply
from tests.support.waiting import eventually

TYPES = ("webhook", "alertmanager", "apprise")


@pytest.fixture
async def box(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox(dsn) as box:
        yield box


@pytest.fixture
async def usage(dsn: str) -> AsyncIterator[Bell]:
    async with bell(dsn) as usage:
        yield usage


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[Database]:
    logger = log.configure("error").get_logger()
    pool = Database(dsn, pool_size=4, prepared_statements=True, log=logger)
    await pool.open()
    try:
        yield pool
    finally:
        await pool.close()


@pytest.fixture
async def own(pool: Database) -> AsyncIterator[OperatorChannels]:
    async with OperatorChannels(FeedStore(pool), "http://quotabell:3001") as own:
        yield own


def channel(type: str, url: str, name: str = "ops", **more: Any) -> Channel:
    secret = {"secret": SECRETS[0]} if type == "webhook" else {}
    return Channel.model_validate({"name": name, "type": type, "url": url} | secret | more)


async def configured(own: OperatorChannels, pool: Database, *found: Channel) -> None:
    own.replace(found)
    await ChannelStore(pool).put([row_of(one) for one in found])


@contextlib.asynccontextmanager
async def delivering(dsn: str, own: OperatorChannels) -> AsyncIterator[Station]:
    async with station(dsn, dict.fromkeys(TYPES, own)) as at:
        yield at


def alerts(receiver: Receiver) -> list[dict[str, Any]]:
    """All alerts that an Alertmanager was told of."""
    return [alert for call in receiver.calls for alert in json.loads(call.body)]


async def test_a_crossing_reaches_a_webhook_and_so_does_its_end(
    dsn: str,
    box: Outbox,
    usage: Bell,
    receiver: Receiver,
    own: OperatorChannels,
    pool: Database,
) -> None:
    await configured(own, pool, channel("webhook", receiver.origin + "/in"))
    receiver.script(Reply(500), Reply(429, {"Retry-After": "1"}))
    async with delivering(dsn, own) as at:
        state = await usage.report(91, user="alice")
        await receiver.wait(3)
        await eventually(box.closed)
        await usage.report(10, user="alice")
        await receiver.wait(4)
        await eventually(box.closed)
        assert at.value("quotabell_deliveries_total", channel="webhook", outcome="sent") == 2
        assert at.value("quotabell_deliveries_total", channel="webhook", outcome="retry") == 2

    told = [Webhook(SECRETS[0]).verify(call.body, call.headers) for call in receiver.calls]
    assert [one["type"] for one in told] == ["alert.firing"] * 3 + ["alert.resolved"]
    ids = [call.headers["webhook-id"] for call in receiver.calls]
    assert len(set(ids[:3])) == 1
    assert ids[3] != ids[0]
    data = told[-1]["data"]
    assert (data["stateId"], data["userId"], data["reason"]) == (str(state), "alice", "fell")
    assert (data["tokensUsed"], data["tokenLimit"]) == (10, 100)
    assert await box.books(enqueued=2) == []


async def test_a_removed_channel_and_one_of_another_file_are_told_apart(
    dsn: str,
    box: Outbox,
    receiver: Receiver,
    own: OperatorChannels,
    pool: Database,
) -> None:
    found = channel("webhook", receiver.origin)
    await configured(own, pool, found)
    own.replace([])  # as if only another replica's file had it
    async with delivering(dsn, own) as at:
        message = await box.announce("alice", alert=await box.alert("alice"), seq=1)
        at.deliverer.wake()
        await eventually(lambda: at.value("quotabell_deliveries_total", **RETRIED))
        own.replace([found])  # reloaded
        await receiver.wait(1)
        await eventually(box.closed)
        assert (await box.delivery(message))["counted"] == 1, "the other replica's is not"

        await box.connection.execute("delete from channels")
        second = await box.value(  # as if it had been made just before
            "with told as (insert into notification_history (title, body, enqueued_at) "
            "values ('t', 'b', now()) returning id) "
            "insert into deliveries (notification_id, channel, target, origin, expires_at) "
            "select id, 'webhook', 'ops', 'x', now() + interval '1 h' from told "
            "returning notification_id"
        )
        at.deliverer.wake()
        await eventually(box.closed)

    delivery = await box.delivery(second)
    assert (delivery["status"], delivery["reason"]) == ("failed", "channel_removed")
    assert len(receiver.calls) == 1


RETRIED = {"channel": "webhook", "outcome": "retry"}


async def test_alertmanager_is_told_what_is_true_now_whatever_the_message_says(
    dsn: str,
    box: Outbox,
    usage: Bell,
    receiver: Receiver,
    own: OperatorChannels,
    pool: Database,
) -> None:
    await configured(own, pool, channel("alertmanager", receiver.origin + "/am/"))
    first = await box.alert("alice")
    await box.alert("alice")  # of the next period: it fires under the same name
    async with delivering(dsn, own) as at:
        await box.announce("alice", alert=first, seq=1)
        at.deliverer.wake()
        await receiver.wait(1)
        await eventually(box.closed)
        await box.connection.execute(
            "update alerts set status = 'resolved', ended_at = now() where id = $1", first
        )
        await box.announce("alice", alert=first, seq=2, transition="resolved")
        at.deliverer.wake()
        await receiver.wait(2)
        await eventually(box.closed)

    assert {call.path for call in receiver.calls} == {"/am/api/v2/alerts"}
    fired, still = alerts(receiver)
    assert (
        fired["labels"]
        == still["labels"]
        == {
            "alertname": "QuotabellQuotaThreshold",
            "quota": "q",
            "provider": "openai",
            "model": "gpt-5",
            "user": "alice",
            "kind": "threshold",
        }
    )
    assert fired["generatorURL"].startswith("http://quotabell:3001/?state=")
    assert still["endsAt"] > fired["endsAt"] > fired["startsAt"]


async def test_all_that_fires_is_told_again_and_what_ended_for_five_minutes(
    usage: Bell, receiver: Receiver, own: OperatorChannels, pool: Database
) -> None:
    await configured(
        own, pool, channel("alertmanager", receiver.origin, when={"min_percentage": 90})
    )
    metrics, logger = Metrics(), log.configure("error").get_logger()
    feed = AlertFeed(FeedStore(pool), own, metrics, logger, leading=lambda: True)
    for n in range(1100):
        await usage.report(91, user=f"u{n:04}")
    await usage.report(80, user="low")
    for user in ("ended", "long ago"):
        await usage.report(95, user=user)
        await usage.report(1, user=user)
    await usage.execute(
        "update alerts set ended_at = now() - interval '6 min' where user_id = 'long ago'"
    )

    await feed.post()

    posted = alerts(receiver)
    assert len(receiver.calls) == 4, "1,101 that fire and one that ended, by 500"
    users = [alert["labels"]["user"] for alert in posted]
    assert sorted(users) == sorted([f"u{n:04}" for n in range(1100)] + ["ended"])
    ended = next(alert for alert in posted if alert["labels"]["user"] == "ended")
    assert ended["endsAt"] < posted[0]["endsAt"]
    assert ended["annotations"]["summary"].endswith("is resolved: fell")
    labels = {"channel": "ops", "outcome": "sent"}
    assert metrics.registry.get_sample_value("quotabell_alertmanager_posts_total", labels) == 4


async def test_an_alertmanager_that_is_away_costs_the_others_nothing(
    usage: Bell, receiver: Receiver, own: OperatorChannels, pool: Database
) -> None:
    away = channel("alertmanager", "http://127.0.0.1:9", name="away")
    await configured(own, pool, away, channel("alertmanager", receiver.origin))
    metrics, logger = Metrics(), log.configure("error").get_logger()
    feed = AlertFeed(FeedStore(pool), own, metrics, logger, leading=lambda: True)
    await usage.report(91)

    await feed.post()

    assert len(alerts(receiver)) == 1
    labels = {"channel": "away", "outcome": "retry"}
    assert metrics.registry.get_sample_value("quotabell_alertmanager_posts_total", labels) == 1


async def test_only_the_replica_that_leads_tells_alertmanager_again(
    usage: Bell, receiver: Receiver, own: OperatorChannels, pool: Database
) -> None:
    await configured(own, pool, channel("alertmanager", receiver.origin))
    await usage.report(91)
    metrics, logger = Metrics(), log.configure("error").get_logger()
    leading, asked = False, 0

    def leads() -> bool:
        nonlocal asked
        asked += 1
        return leading

    feed = AlertFeed(FeedStore(pool), own, metrics, logger, leading=leads, every=0.05)
    task = asyncio.create_task(feed.run())
    try:
        await eventually(lambda: asked >= 3)
        assert receiver.calls == []
        leading = True
        await receiver.wait(2)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_a_silence_keeps_back_is_not_told_again_either(
    dsn: str,
    box: Outbox,
    usage: Bell,
    receiver: Receiver,
    own: OperatorChannels,
    pool: Database,
) -> None:
    await configured(own, pool, channel("alertmanager", receiver.origin))
    metrics, logger = Metrics(), log.configure("error").get_logger()
    feed = AlertFeed(FeedStore(pool), own, metrics, logger, leading=lambda: True)
    async with delivering(dsn, own):
        await usage.report(91, user="before")
        await receiver.wait(1)
        await usage.execute(
            "insert into silences (matchers, ends_at, author, reason) "
            "values ('{}', now() + interval '1 h', 'test', 'test')"
        )
        await usage.report(91, user="after")
        await eventually(box.closed)
        assert await box.statuses() == {"sent": 1, "suppressed": 1}
        await feed.post()

    assert [alert["labels"]["user"] for alert in alerts(receiver)] == ["before", "before"]


async def test_alerts_end_by_the_clock_by_which_they_begin(
    usage: Bell, receiver: Receiver, own: OperatorChannels, pool: Database
) -> None:
    await configured(own, pool, channel("alertmanager", receiver.origin))
    await usage.report(91)
    behind = datetime.now(UTC) - timedelta(hours=1)  # this machine is ahead
    pool.clock.measured(behind, ticks(), ticks())
    metrics, logger = Metrics(), log.configure("error").get_logger()

    await AlertFeed(FeedStore(pool), own, metrics, logger, leading=lambda: True).post()

    [alert] = alerts(receiver)
    ends = datetime.fromisoformat(alert["endsAt"])
    assert timedelta(minutes=3) < ends - behind < timedelta(minutes=5)


async def test_apprise_gets_its_deliveries(
    dsn: str, box: Outbox, receiver: Receiver, own: OperatorChannels, pool: Database
) -> None:
    pytest.importorskip("apprise")
    url = receiver.origin.replace("http", "json") + "/x"
    await configured(own, pool, channel("apprise", url, name="chat"))
    async with delivering(dsn, own) as at:
        await box.announce("alice", alert=await box.alert("alice"), seq=1)
        at.deliverer.wake()
        await eventually(box.closed)

    assert json.loads(receiver.calls[0].body)["title"] == "openai / gpt-5 is at 90 %"
    assert await box.statuses() == {"sent": 1}
