"""From a report that crosses to the browser, through a whole daemon."""

from __future__ import annotations

import asyncio
import json
import stat
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from quotabell.channels.vapid import KEY_FILE, VapidKey
from quotabell.config import Config
from quotabell.service.push import KeyMissing
from tests.http.client import Client, serving, snapshot
from tests.support.daemon import configure, process, write_config
from tests.support.network import Canary
from tests.support.outbox import Outbox, outbox
from tests.support.push_browser import Browser, b64u
from tests.support.pushservice import Answer, PushService
from tests.support.waiting import eventually


@pytest.fixture
async def push() -> AsyncIterator[PushService]:
    async with PushService() as push:
        yield push


@pytest.fixture
async def box(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox(dsn) as box:
        yield box


def sections(push: PushService, **more: Any) -> dict[str, Any]:
    return {"push": {"trusted_origins": [push.origin]}} | more


def own_key(push: PushService, **more: Any) -> dict[str, Any]:
    """The key that the daemon makes for itself."""
    return {"push": {"trusted_origins": [push.origin], "key_files": []}} | more


@pytest.fixture
async def client(dsn: str, push: PushService, tmp_path: Path) -> AsyncIterator[Client]:
    async with serving(configure(tmp_path, dsn, **sections(push))) as client:
        yield client


async def subscribe(client: Client, push: PushService, user: str = "") -> Browser:
    key = (await client.get("/api/push/vapid-public-key")).json["publicKey"]
    browser = push.subscribe(key)
    body = {"userId": user, "subscription": browser.subscription, "applicationServerKey": key}
    assert (await client.post("/api/push/subscribe", json=body)).json["active"]
    return browser


def report(percent: int, model: str = "gpt-5", user: str = "alice") -> dict[str, Any]:
    return snapshot(
        provider="openai", model=model, userId=user, tokensUsed=percent * 100, tokenLimit=10_000
    )


# --- end to end ----------------------------------------------------------------------------


async def test_a_crossing_reaches_the_browser_and_the_history(
    client: Client, push: PushService, box: Outbox
) -> None:
    own, operator = await subscribe(client, push, "alice"), await subscribe(client, push)
    other = await subscribe(client, push, "bob")

    await client.update(report(50))
    await client.update(report(91))
    await push.wait(2)
    await eventually(box.closed)

    assert push.problems == []
    assert push.of(other) == []
    state = await box.value("select id::text from token_usage")
    for browser, whose in ((own, ""), (operator, " by alice")):
        [arrival] = push.of(browser)
        assert arrival.message == {
            "title": "openai / gpt-5 is at 91 %",
            "body": f"9,100 of 10 k tokens{whose}",
            "tag": f"{state}:threshold",
            "state": "firing",
            "kind": "threshold",
            "threshold": 90.0,
            "percentage": 91.0,
            "quota": "reported",
            "provider": "openai",
            "model": "gpt-5",
            "url": f"/?state={state}",
        }
    [entry] = (await client.get("/api/push/history")).json["items"]
    assert (entry["status"], entry["userId"], entry["level"]) == ("sent", "alice", 90.0)
    assert entry["alertId"] is not None
    assert [d["status"] for d in entry["deliveries"]] == ["sent", "sent"]
    assert [len(d["attempts"]) for d in entry["deliveries"]] == [1, 1]
    assert await client.metric("quotabell_deliveries_total", outcome="sent") == 2
    assert await client.metric("quotabell_delivery_seconds_count") == 2
    assert await client.metric("quotabell_listener_up") == 1
    assert await box.books(enqueued=2) == []


async def test_an_alert_is_told_from_its_beginning_to_its_end(
    client: Client, push: PushService, box: Outbox
) -> None:
    browser = await subscribe(client, push, "alice")
    for percent in (80, 95, 100, 10):
        await client.update(report(percent))
        await eventually(box.closed)
    later = await subscribe(client, push, "alice")
    for percent in (80, 10):
        await client.update(report(percent))
        await eventually(box.closed)

    told = [(a.message["state"], a.message["threshold"]) for a in push.of(browser)]
    assert told == [
        ("firing", 75.0), ("firing", 90.0), ("firing", 100.0), ("resolved", 100.0),
        ("firing", 75.0), ("resolved", 75.0),
    ]  # fmt: skip
    assert len({a.headers["topic"] for a in push.of(browser)}) == 1
    assert len({a.message["tag"] for a in push.arrivals}) == 1
    assert [a.message["state"] for a in push.of(later)] == ["firing", "resolved"]
    assert await box.books(enqueued=8) == []


async def test_fifty_crossings_ring_at_once(
    client: Client, push: PushService, box: Outbox, capsys: pytest.CaptureFixture[str]
) -> None:
    await subscribe(client, push, "alice")
    took = []
    for n in range(50):
        begun = time.monotonic()
        await client.update(report(95, model=f"model-{n}"))
        arrivals = await push.wait(n + 1)
        took.append(arrivals[n].at - begun)
    with capsys.disabled():
        print(f"\n  report to push, p50 of 50: {statistics.median(took) * 1000:.1f} ms")

    assert statistics.median(took) < 0.25
    await eventually(box.closed)
    assert await box.books(enqueued=50) == []


# --- hints ---------------------------------------------------------------------------------


async def test_without_hints_a_crossing_rings_within_a_poll(
    dsn: str, push: PushService, box: Outbox, tmp_path: Path
) -> None:
    database = {"url": dsn, "listen_url": "off"}
    async with serving(configure(tmp_path, dsn, **sections(push, database=database))) as client:
        await subscribe(client, push, "alice")
        took = []
        for n in range(4):
            begun = time.monotonic()
            await client.update(report(95, model=f"model-{n}"))
            arrivals = await push.wait(n + 1)
            took.append(arrivals[n].at - begun)
            await asyncio.sleep(0.1)
        assert await client.metric("quotabell_listener_up") == 0
        await eventually(box.closed)

    assert statistics.median(took) < 1.7
    assert await box.books(enqueued=4) == []


async def test_a_listener_that_is_killed_comes_back_and_nothing_is_lost(
    client: Client, push: PushService, box: Outbox
) -> None:
    await subscribe(client, push, "alice")

    async def up() -> bool:
        return await client.metric("quotabell_listener_up") == 1

    for n in range(6):
        await eventually(up)
        killed = await box.value(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity "
            "where datname = current_database() and (query ilike 'listen%' or query = 'select 1')"
        )
        assert killed >= 1
        await client.update(report(95, model=f"model-{n}"))
    await push.wait(6)
    await eventually(up)
    await eventually(box.closed)

    assert await box.books(enqueued=6) == []
    assert len(push.arrivals) == 6


# --- start ---------------------------------------------------------------------------------


async def test_what_crossed_before_the_fan_out_is_delivered_at_the_next_start(
    dsn: str, push: PushService, box: Outbox, tmp_path: Path
) -> None:
    config = configure(tmp_path, dsn, **sections(push))
    async with serving(config) as client:
        browser = await subscribe(client, push, "alice")
        await client.update(report(10))
    # As a report does whose daemon dies right after the commit.
    await box.connection.execute("update token_usage set tokens_used = 9500")
    assert await box.value("select status from notification_history") == "pending"

    async with serving(config):
        await push.wait(1)
        await eventually(box.closed)

    assert len(push.of(browser)) == 1
    assert await box.books(enqueued=1) == []


async def test_the_vapid_key_is_the_owners_alone_and_stays(
    dsn: str, push: PushService, tmp_path: Path
) -> None:
    config = configure(tmp_path, dsn, **own_key(push))
    keys = []
    for _ in range(2):
        async with serving(config) as client:
            keys.append((await client.get("/api/push/vapid-public-key")).json["publicKey"])

    path = config.data_dir / KEY_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert keys == [VapidKey.load(path).public] * 2


async def test_without_the_key_of_its_subscribers_the_daemon_does_not_start(
    dsn: str, push: PushService, box: Outbox, tmp_path: Path
) -> None:
    config = configure(tmp_path, dsn, **own_key(push))
    async with serving(config) as client:
        await subscribe(client, push, "alice")
    path = config.data_dir / KEY_FILE
    old = path.rename(tmp_path / "old.pem")

    with pytest.raises(KeyMissing, match=r"push\.key_files"):
        async with serving(config):
            pass
    path.unlink()

    new = VapidKey.load_or_create(tmp_path)
    files = [str(tmp_path / KEY_FILE), str(old)]
    both = {"trusted_origins": [push.origin], "key_files": files}
    async with serving(configure(tmp_path, dsn, push=both)) as client:
        assert (await client.get("/api/push/vapid-public-key")).json["publicKey"] == new.public
        await subscribe(client, push, "alice")
        await client.update(report(95))
        await push.wait(2)
        await eventually(box.closed)
    assert push.problems == []  # each with the key that its browser knows
    assert {a.headers["authorization"].partition("k=")[2] for a in push.arrivals} == {
        *(new.public, VapidKey.load(old).public),
    }


async def test_a_replica_with_another_key_does_not_start_though_nobody_is_subscribed(
    dsn: str, push: PushService, tmp_path: Path
) -> None:
    one = configure(tmp_path / "one", dsn, **own_key(push))
    other = configure(tmp_path / "other", dsn, **own_key(push))
    async with serving(one):
        with pytest.raises(KeyMissing, match=r"push\.key_files"):
            async with serving(other):
                pass
    assert (one.data_dir / KEY_FILE).read_text() != (other.data_dir / KEY_FILE).read_text()


async def test_a_key_is_replaced_once_nobody_is_subscribed_with_it(
    dsn: str, push: PushService, box: Outbox, tmp_path: Path
) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old, new = (VapidKey.load_or_create(tmp_path / name) for name in ("old", "new"))
    files = {name: str(tmp_path / name / KEY_FILE) for name in ("old", "new")}

    def config(*names: str) -> Config:
        keys = {"trusted_origins": [push.origin], "key_files": [files[name] for name in names]}
        return configure(tmp_path, dsn, push=keys)

    async with serving(config("old")) as client:
        await subscribe(client, push, "alice")
    async with serving(config("new", "old")):
        pass
    for lacking in ("new", "old"):  # one is needed by alice, one is what browsers are given
        with pytest.raises(KeyMissing, match=(old if lacking == "new" else new).id):
            async with serving(config(lacking)):
                pass
    await box.connection.execute("update push_subscriptions set is_active = false")
    async with serving(config("new")):
        pass

    assert await box.rows("select id from vapid_keys where is_active") == [{"id": new.id}]


# --- where it never goes -------------------------------------------------------------------


async def test_no_row_makes_the_daemon_connect_where_it_must_not(
    client: Client, push: PushService, box: Outbox
) -> None:
    keys = push.subscribe().subscription["keys"]
    redirected = await subscribe(client, push, "alice")
    async with Canary("127.0.0.1") as canary:
        to_canary = f"http://127.0.0.1:{canary.port}/"
        push.script(Answer(307, {"Location": to_canary}), to=redirected)
        hostile = [
            to_canary,
            f"https://127.0.0.1:{canary.port}/",
            f"https://localhost:{canary.port}/",
            f"https://[::ffff:127.0.0.1]:{canary.port}/",
            f"https://fcm.googleapis.com@127.0.0.1:{canary.port}/",
            f"{push.origin}@127.0.0.1:{canary.port}/",
            "https://10.0.0.1/",
            "https://169.254.169.254/latest/meta-data/",
        ]
        for endpoint in hostile:
            await box.subscribe("alice", {"endpoint": endpoint, "keys": keys})
        await client.update(report(95))
        await eventually(box.closed)
        assert canary.connections == 0

    assert await box.statuses() == {"failed": len(hostile) + 1}
    reasons = await box.rows("select distinct split_part(reason, ':', 1) as code from attempts")
    assert {row["code"] for row in reasons} == {"endpoint_refused", "redirect_refused"}
    assert len(push.arrivals) == 1


async def test_a_stop_under_load_leaves_nothing_unknown_and_no_secret_in_the_log(
    dsn: str, push: PushService, box: Outbox, tmp_path: Path
) -> None:
    push.always = Answer(delay=0.05)
    path = write_config(tmp_path, dsn, **own_key(push, log={"level": "debug"}))
    async with process(path) as daemon, aiohttp.ClientSession() as session:
        client = Client(session, daemon.url)
        browsers = [await subscribe(client, push) for _ in range(120)]
        push.script(Answer(500), Answer(404), Answer(401), Answer(fault="reset"), to=browsers[0])
        await client.update(json.dumps([report(95, model=f"model-{n}") for n in range(5)]))
        await push.wait(20)
        assert await daemon.end() == 0
        assert await box.value("select count(*) from deliveries where status = 'leased'") == 0
        assert "unknown" not in await box.outcomes()
        await daemon.start()
        await eventually(box.closed, timeout=30)

    statuses = await box.statuses()
    assert statuses["sent"] + statuses["failed"] == 600
    assert len({(a.token, a.message["model"]) for a in push.arrivals}) >= 570
    assert await box.books(enqueued=600) == []
    assert "unknown" not in await box.outcomes()
    said = daemon.log_file.read_text()
    key = VapidKey.load(tmp_path / "data" / KEY_FILE)
    private = key.private.private_numbers().private_value.to_bytes(32, "big")
    secrets = [b64u(private), private.hex()]
    secrets += (tmp_path / "data" / KEY_FILE).read_text().splitlines()[1:-1]
    for browser in browsers:
        secrets += [browser.token, *browser.subscription["keys"].values()]
    secrets += {a.headers["authorization"].split("t=")[1].split(",")[0] for a in push.arrivals}
    assert "attempt not successful" in said
    assert [secret for secret in secrets if secret in said] == []
