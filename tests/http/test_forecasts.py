"""A forecast from usage that runs out to the browser, through a whole daemon."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.channels.test_webhook import SECRETS
from tests.http.client import Client, serving
from tests.http.people import TOKENS, acting
from tests.support.bell import Bell, bell
from tests.support.daemon import configure
from tests.support.forecasts import burning, idle
from tests.support.outbox import Outbox, outbox
from tests.support.push_browser import Browser
from tests.support.pushservice import PushService
from tests.support.receiver import Receiver
from tests.support.waiting import eventually

ALERTS = "/api/token-monitor/alerts"
LEVEL = "quotabell_alert_level_percent"


@pytest.fixture
async def push() -> AsyncIterator[PushService]:
    async with PushService() as push:
        yield push


@pytest.fixture
async def hooks() -> AsyncIterator[Receiver]:
    async with Receiver() as hooks:
        yield hooks


@pytest.fixture
async def box(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox(dsn) as box:
        yield box


@pytest.fixture
async def it(dsn: str) -> AsyncIterator[Bell]:
    async with bell(dsn) as it:
        yield it


@pytest.fixture
async def client(
    dsn: str, push: PushService, hooks: Receiver, tmp_path: Path
) -> AsyncIterator[Client]:
    config = configure(
        tmp_path,
        dsn,
        auth={"tokens": TOKENS},
        push={"trusted_origins": [push.origin]},
        alerts={"evaluate_every": "50ms", "forecast": {"hold": "100ms"}},
        channels=[
            {
                "name": f"{kind}s",
                "type": "webhook",
                "url": f"{hooks.origin}/{kind}",
                "secret": SECRETS[0],
                "when": {"kind": kind},
            }
            for kind in ("forecast", "threshold")
        ],
    )
    async with serving(config) as client:
        yield client


async def subscribe(client: Client, push: PushService) -> Browser:
    ada = acting(client, "ada")
    key = (await ada.get("/api/push/vapid-public-key")).json["publicKey"]
    browser = push.subscribe(key)
    body = {"userId": "ada", "subscription": browser.subscription, "applicationServerKey": key}
    assert (await ada.post("/api/push/subscribe", json=body)).json["active"]
    return browser


async def fired(client: Client) -> Any:
    """The forecast that fires, as the API has it."""
    query = {"kind": "forecast", "status": "firing"}
    items = (await acting(client, "ops").get(ALERTS, params=query)).json["items"]
    return items[0] if items else None


async def test_a_forecast_reaches_who_it_is_for_and_so_does_its_end(
    client: Client, push: PushService, hooks: Receiver, box: Outbox, it: Bell
) -> None:
    browser = await subscribe(client, push)
    ops = acting(client, "ops")

    state = await burning(it, user="ada", ends=600)
    await push.wait(1)
    await eventually(box.closed)

    alert = await fired(client)
    assert (alert["level"], alert["tokensUsed"], alert["reason"]) == (100, 60, None)
    assert alert["stateId"] == str(state)
    left = datetime.fromisoformat(alert["exhaustsAt"]) - datetime.fromisoformat(alert["startedAt"])
    assert timedelta(seconds=390) < left <= timedelta(seconds=400)
    labels = {"user": "ada", "kind": "forecast"}
    assert await eventually(lambda: ops.metric(LEVEL, **labels)) == 100
    acknowledged = await acting(client, "ada").post(f"{ALERTS}/{alert['id']}/ack")
    assert acknowledged.json["data"]["acknowledgedBy"] == "ada"

    await idle(it)
    await push.wait(2)
    await eventually(box.closed)

    told = [arrival.message for arrival in push.of(browser)]
    assert [(m["state"], m["kind"], m["threshold"]) for m in told] == [
        ("firing", "forecast", 100.0),
        ("resolved", "forecast", 100.0),
    ]
    assert {m["tag"] for m in told} == {f"{state}:forecast"}
    assert len({arrival.headers["topic"] for arrival in push.arrivals}) == 1
    assert [call.path for call in hooks.calls] == ["/forecast", "/forecast"]
    assert json.loads(hooks.calls[1].body)["data"]["reason"] == "slower burn"

    async def gone() -> bool:
        return await ops.metric(LEVEL, **labels) is None

    await eventually(gone)
    assert await fired(client) is None
    assert await box.books() == []


async def test_beside_a_threshold_it_is_a_message_of_its_own_until_the_limit_is_reached(
    client: Client, push: PushService, box: Outbox, it: Bell
) -> None:
    browser = await subscribe(client, push)
    await it.settings([50, 100])
    state = await burning(it, user="ada", ends=600)
    await push.wait(2)

    end = await it.value("select period_end from token_usage")
    await it.report(100, 100, user="ada", period_end=end)
    await push.wait(3)

    async def over() -> bool:
        return await fired(client) is None

    await eventually(over)
    await eventually(box.closed)
    told = [arrival.message for arrival in push.of(browser)]
    assert sorted((m["tag"], m["state"]) for m in told) == [
        (f"{state}:forecast", "firing"),
        (f"{state}:threshold", "firing"),
        (f"{state}:threshold", "firing"),
    ]
    assert len({arrival.headers["topic"] for arrival in push.arrivals}) == 2
    assert await box.books() == []


async def test_a_silence_of_forecasts_keeps_back_nothing_else(
    client: Client, push: PushService, box: Outbox, it: Bell
) -> None:
    browser = await subscribe(client, push)
    silence = {
        "matchers": {"kind": "forecast"},
        "endsAt": (await it.value("select now() + interval '1 hour'")).isoformat(),
        "reason": "known",
    }
    ops = acting(client, "ops")
    made = (await ops.post("/api/token-monitor/silences", json=silence)).json
    await it.settings([50, 100])
    await burning(it, user="ada", ends=600)
    await push.wait(1)
    await eventually(lambda: fired(client))
    await eventually(box.closed)
    assert [arrival.message["kind"] for arrival in push.of(browser)] == ["threshold"]

    await ops.call("DELETE", f"/api/token-monitor/silences/{made['id']}")
    await push.wait(2)

    assert push.of(browser)[1].message["kind"] == "forecast"
    assert push.of(browser)[1].message["title"].startswith("openai / gpt-5 runs out in about")
