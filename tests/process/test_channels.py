"""Channels of a daemon that runs: tried out on command, changed by a reload."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from standardwebhooks import Webhook

from quotabell.app import Running
from tests.channels.test_webhook import SECRETS
from tests.process.program import quotabell_run
from tests.support import daemon
from tests.support.alertmanager import alertmanager
from tests.support.daemon import DaemonProcess
from tests.support.outbox import outbox
from tests.support.postgres import Database
from tests.support.push_browser import Browser
from tests.support.pushservice import Answer, PushService
from tests.support.receiver import Receiver, Reply
from tests.support.waiting import eventually


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def push() -> AsyncIterator[PushService]:
    async with PushService() as push:
        yield push


@pytest.fixture
async def process(
    database: Database, tmp_path: Path, receiver: Receiver, push: PushService
) -> AsyncIterator[DaemonProcess]:
    config = daemon.write_config(
        tmp_path,
        database.dsn,
        push={"trusted_origins": [push.origin]},
        channels=[hook("ops", receiver), hook("other", receiver, when={"user": "nobody"})],
    )
    async with daemon.process(config) as process:
        yield process


def hook(name: str, receiver: Receiver, **more: Any) -> dict[str, Any]:
    url = f"{receiver.origin}/CANARY-{name}"
    return {"name": name, "type": "webhook", "url": url, "secret": SECRETS[0]} | more


async def subscribed(process: DaemonProcess | Running, push: PushService, user: str) -> Browser:
    async with aiohttp.ClientSession(process.url) as session:
        async with session.get("/api/push/vapid-public-key") as response:
            browser = push.subscribe((await response.json())["publicKey"])
        body = {"userId": user, "subscription": browser.subscription}
        async with session.post("/api/push/subscribe", json=body) as response:
            assert (await response.json())["active"]
    return browser


async def report(process: DaemonProcess | Running) -> None:
    async with aiohttp.ClientSession(process.url) as session:
        body = daemon.SNAPSHOT | {"tokensUsed": 9100}
        async with session.post("/api/token-monitor/update", json=body) as response:
            assert response.status == 200


async def test_a_test_reaches_a_users_browser_and_every_channel(
    process: DaemonProcess, receiver: Receiver, push: PushService
) -> None:
    await subscribed(process, push, "alice")

    done = await quotabell_run("push", "test", "-c", process.config, "--user", "alice")

    assert done.code == 0, done
    lines = done.out.splitlines()
    assert [line.partition(" (")[0].split()[0] for line in lines] == [
        "webhook",
        "webhook",
        "webpush",
    ]
    assert lines[0] == "webhook ops: sent (204 sent)"
    told = [Webhook(SECRETS[0]).verify(call.body, call.headers) for call in receiver.calls]
    assert [one["type"] for one in told] == ["test", "test"]
    assert [message["state"] for message in push.messages] == ["test"]


async def test_a_test_of_one_channel_says_what_became_of_it(
    process: DaemonProcess, receiver: Receiver, push: PushService
) -> None:
    await subscribed(process, push, "")
    receiver.always = Reply(400)

    refused = await quotabell_run("push", "test", "-c", process.config, "--channel", "ops")
    push.script(Answer(410))
    gone = await quotabell_run("push", "test", "-c", process.config, "--channel", "webpush")
    nobody = await quotabell_run("push", "test", "-c", process.config, "--channel", "webpush")
    unknown = await quotabell_run("push", "test", "-c", process.config, "--channel", "opps")

    assert (refused.code, refused.out) == (1, "webhook ops: failed (400 bad_request)\n")
    assert gone.code == 1
    assert ": failed (410 gone)" in gone.out
    assert (nobody.code, nobody.out.partition(":")[0]) == (1, "nobody to tell")
    assert (unknown.code, unknown.out) == (1, "")
    assert "'opps'" in unknown.err
    assert "known: webpush, ops, other" in unknown.err
    assert len(receiver.calls) == 1


async def test_without_a_daemon_a_test_ends_in_time(
    process: DaemonProcess, receiver: Receiver
) -> None:
    await process.end()

    done = await quotabell_run("push", "test", "-c", process.config, "--timeout", "0.5")

    assert (done.code, done.out) == (
        1,
        "no daemon took it up; is one running on this database?\n",
    )


async def test_a_reload_changes_channels_and_tells_a_new_alertmanager_what_fires(
    process: DaemonProcess, receiver: Receiver, database: Database, tmp_path: Path
) -> None:
    await report(process)
    await receiver.wait(1)
    content = yaml.safe_load(process.config.read_text())
    async with alertmanager(tmp_path / "am", receiver.origin + "/am") as am:
        content["channels"] = [{"name": "am", "type": "alertmanager", "url": am.url}]
        process.config.write_text(yaml.safe_dump(content))
        os.kill(process.pid, signal.SIGHUP)

        assert await eventually(am.firing) == ["grok / grok-3 is at 91 %"]
        done = await quotabell_run("push", "test", "-c", process.config)
        assert (done.code, done.out) == (0, "alertmanager am: sent (200 sent)\n")
        names = {a["labels"]["alertname"] for a in await am.alerts()}
        assert names == {"QuotabellQuotaThreshold", "QuotabellTest"}

    async with outbox(database.dsn) as box:
        [row] = await box.rows("select status from deliveries where channel = 'webhook'")
    assert row["status"] == "sent"
    said = process.log_file.read_text()
    assert "CANARY" not in said
    assert "whsec" not in said
