"""A daemon that runs tells of sources that stop and of channels that fail, and of its own life."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from standardwebhooks import Webhook

from quotabell.app import Running
from quotabell.config import Config
from tests.channels.test_webhook import SECRETS
from tests.process.test_channels import hook, report, subscribed
from tests.support import daemon
from tests.support.daemon import DaemonProcess
from tests.support.outbox import Outbox, outbox
from tests.support.postgres import Database
from tests.support.pushservice import PushService
from tests.support.receiver import Receiver, Reply
from tests.support.waiting import eventually

Daemon = DaemonProcess | Running
SOURCE = "local/update"
# It reported every ten minutes for a day until an hour ago, and somebody listened all the time.
PAST = """
update sources set reported_since = now() - interval '25h', last_event_at = now() - interval '1h',
    longest_pause = '10m', longest_until = now() - interval '2h', second_pause = '10m';
update rounds set heard_since = now() - interval '2d', watched_since = now() - interval '2d'
"""


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def other() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def push() -> AsyncIterator[PushService]:
    async with PushService() as push:
        yield push


def told(receiver: Receiver, *kinds: str) -> list[tuple[str, dict[str, Any]]]:
    """What webhooks said about alerts of these kinds: the type, and the data."""
    found = [Webhook(SECRETS[0]).verify(call.body, call.headers) for call in receiver.calls]
    return [(one["type"], one["data"]) for one in found if one["data"]["kind"] in kinds]


async def listed(process: Daemon, what: str) -> list[dict[str, Any]]:
    async with aiohttp.ClientSession(process.url) as session:
        async with session.get(f"/api/token-monitor/{what}") as response:
            items: list[dict[str, Any]] = (await response.json())["items"]
    return items


async def metric(process: Daemon, name: str) -> dict[str, float]:
    async with aiohttp.ClientSession(process.url) as session:
        async with session.get("/metrics") as response:
            families = text_string_to_metric_families(await response.text())
    return {
        next(iter(s.labels.values()), ""): s.value
        for f in families
        for s in f.samples
        if s.name == name
    }


async def reported(box: Outbox, reports: int) -> bool:
    """Whether so many reports are written down."""
    return bool(await box.value("select events from sources where name = $1", SOURCE) == reports)


async def test_a_source_that_stops_is_told_to_operators_and_listed_until_it_is_back(
    database: Database, tmp_path: Path, receiver: Receiver, push: PushService
) -> None:
    config = daemon.configure(
        tmp_path,
        database.dsn,
        push={"trusted_origins": [push.origin]},
        alerts={"evaluate_every": "100ms", "stale_after": "30m"},
        channels=[hook("ops", receiver), hook("quotas", receiver, when={"kind": "threshold"})],
    )
    async with outbox(database.dsn) as box:
        async with daemon.running(config) as process:
            await subscribed(process, push, "")
            await subscribed(process, push, "alice")
            await report(process)
            await eventually(lambda: reported(box, 1))
            assert await metric(process, "quotabell_source_stale") == {SOURCE: 0}
            await eventually(box.closed)
            rung = len(push.messages)

            await box.connection.execute(PAST)

            await eventually(lambda: told(receiver, "stale"))
            [(kind, data)] = told(receiver, "stale")
            assert (kind, data["subject"], data["stateId"]) == ("alert.firing", SOURCE, None)
            [alert] = [a for a in await listed(process, "alerts") if a["kind"] == "stale"]
            assert (alert["subject"], alert["level"], alert["userId"]) == (SOURCE, None, None)
            [source] = await listed(process, "sources")
            assert source["staleSince"] == alert["startedAt"]

            async def stale() -> bool:
                return await metric(process, "quotabell_source_stale") == {SOURCE: 1}

            await eventually(stale)
        async with daemon.running(config) as process:
            await report(process)

            await eventually(lambda: len(told(receiver, "stale")) == 2)
            kind, data = told(receiver, "stale")[1]
            assert (kind, data["reason"]) == ("alert.resolved", "reports again")
            [source] = await listed(process, "sources")
            assert source["staleSince"] is None
            await eventually(box.closed)
        assert [m["kind"] for m in push.messages[rung:]] == ["stale", "stale"], "operators only"
        assert len({m["tag"] for m in push.messages[rung:]}) == 1, "the second replaces the first"
        assert await box.books() == []


async def test_an_hour_without_a_daemon_makes_no_source_stale(
    database: Database, tmp_path: Path, receiver: Receiver
) -> None:
    config = daemon.configure(
        tmp_path,
        database.dsn,
        alerts={"evaluate_every": "100ms", "stale_after": "30m"},
        channels=[hook("ops", receiver, when={"kind": "stale"})],
    )
    async with outbox(database.dsn) as box:
        async with daemon.running(config) as process:
            await report(process)
            await eventually(lambda: reported(box, 1))
        await box.connection.execute(PAST)
        await box.connection.execute(
            "update rounds set heard_until = now() - interval '1h', "
            "next_by = now() - interval '59m', attempts_until = now() - interval '1h'"
        )

        async with daemon.running(config) as process:
            for _ in range(3):
                before = await box.value("select heard_until from rounds")
                await eventually(lambda: later(box, before))  # noqa: B023
            hour = "select count(*) from outages where ended - began between '59m' and '65m'"
            assert await box.value(hour) == 1
            assert [a for a in await listed(process, "alerts") if a["kind"] == "stale"] == []
            assert receiver.calls == []


async def test_a_reload_ends_the_alert_of_what_is_not_watched_any_more(
    database: Database, tmp_path: Path, receiver: Receiver
) -> None:
    sections: dict[str, Any] = {
        "alerts": {"evaluate_every": "100ms", "stale_after": "30m"},
        "channels": [hook("ops", receiver, when={"kind": "stale"})],
    }
    config = daemon.configure(tmp_path, database.dsn, **sections)
    never = [{"source": "local/*", "after": 0}]

    def changed() -> Config:
        return daemon.configure(tmp_path, database.dsn, **sections, sources={"stale": never})

    async with outbox(database.dsn) as box, daemon.running(config, reread=changed) as process:
        await report(process)
        await eventually(lambda: reported(box, 1))
        await box.connection.execute(PAST)
        await receiver.wait(1)

        async with aiohttp.ClientSession(process.url) as session:
            async with session.post("/-/reload") as response:
                assert response.status == 204

        await receiver.wait(2)
        assert [data["reason"] for _, data in told(receiver, "stale")] == [None, "not watched"]


async def later(box: Outbox, than: datetime) -> bool:
    """Whether there was another round."""
    return bool(await box.value("select heard_until > $1 from rounds", than))


async def test_a_channel_that_fails_is_told_over_the_others_by_whoever_runs(
    database: Database, tmp_path: Path, receiver: Receiver, other: Receiver
) -> None:
    receiver.always = Reply(500)
    config = daemon.configure(
        tmp_path, database.dsn, channels=[hook("ops", receiver), hook("pager", other)]
    )
    async with outbox(database.dsn) as box:
        async with daemon.running(config) as process:
            await report(process)

            async def failed() -> bool:
                return (await box.outcomes())["retry"] > 0

            await eventually(failed)
        # Twenty minutes pass. Outages are counted out, and one is older than the daemon: the time
        # between the making of the database and its start.
        await box.connection.execute(
            "update outages set began = began - interval '20m', ended = ended - interval '20m';"
            "update attempts set started_at = started_at - interval '20m', "
            "ended_at = ended_at - interval '20m';"
            "update rounds set attempts_until = attempts_until - interval '20m';"
            "update channel_health set failing_since = failing_since - interval '20m'"
        )
        async with daemon.running(config) as process:
            await eventually(lambda: told(other, "channel"), timeout=60)
            [(kind, data)] = told(other, "channel")
            assert (kind, data["subject"]) == ("alert.firing", "webhook ops")
            receiver.always = Reply(204)
            await box.connection.execute(
                "update deliveries set due = now() where status = 'pending'"
            )
            await eventually(box.closed)
        async with daemon.running(config) as process:
            await eventually(lambda: len(told(other, "channel")) == 2)
            kind, data = told(other, "channel")[1]
            assert (kind, data["reason"]) == ("alert.resolved", "works again")
            assert told(receiver, "channel") == []
            assert [a["status"] for a in await listed(process, "alerts?kind=channel")] == []


async def test_a_daemon_that_is_well_says_so_and_keeps_the_url_to_itself(
    database: Database, tmp_path: Path, receiver: Receiver
) -> None:
    switch = tmp_path / "switch"
    switch.write_text(f"{receiver.origin}/ping/CANARY\n")
    config = daemon.write_config(
        tmp_path,
        database.dsn,
        alerts={"evaluate_every": "50ms", "heartbeat_url_file": str(switch)},
        log={"level": "debug"},
    )
    async with daemon.process(config) as process:
        await receiver.wait(1)

        async def counted() -> bool:
            return await metric(process, "quotabell_heartbeat_pings_total") == {"sent": 1}

        await eventually(counted)
        async with aiohttp.ClientSession(process.url) as session:
            async with session.get("/-/config") as response:
                shown = await response.json()
        assert shown["alerts"]["heartbeat_url"] == receiver.origin

    assert [call.path for call in receiver.calls] == ["/ping/CANARY"]
    assert "CANARY" not in json.dumps(shown)
    assert "CANARY" not in process.log_file.read_text()
