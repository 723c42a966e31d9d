"""Through PgBouncer in transaction mode, where no session lasts: without prepared statements and
LISTEN, everything else is the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from quotabell.http.events import PATH
from tests.http.client import Client, serving
from tests.http.test_bell import box, push, report, subscribe  # noqa: F401
from tests.support.daemon import configure
from tests.support.outbox import Outbox
from tests.support.pgbouncer import pgbouncer
from tests.support.pushservice import PushService
from tests.support.waiting import eventually

# ruff: noqa: F811

CROWD = 12


@pytest.fixture
async def client(dsn: str, push: PushService, tmp_path: Path) -> AsyncIterator[Client]:
    async with pgbouncer(dsn) as through:
        config = configure(
            tmp_path,
            "unused",
            database={"url": through, "prepared_statements": False, "listen_url": "off"},
            push={"trusted_origins": [push.origin]},
            alerts={"evaluate_every": "200ms", "repeat_interval": "1d"},
            quotas=[
                {
                    "name": "counted",
                    "match": {"provider": "openai"},
                    "limit": 1000,
                    "window": "day",
                },
            ],
        )
        async with serving(config) as client:
            yield client


async def test_the_whole_way_of_an_alert_works_without_sessions(
    client: Client, push: PushService, box: Outbox
) -> None:
    await subscribe(client, push)

    await client.update(report(101, "single"))
    await push.wait(1)
    await eventually(box.closed)

    await box.connection.execute("update alerts set told_at = now() - interval '2 days'")
    await push.wait(2)
    await eventually(box.closed)
    [alert] = (await client.get("/api/token-monitor/alerts")).json["items"]
    done = await client.post(f"/api/token-monitor/alerts/{alert['id']}/ack", json={})
    assert done.status == 200

    for percent in (95, 10):
        await client.update([report(percent, "many", f"user-{n}") for n in range(CROWD)])
        await push.wait(3 if percent == 95 else 4)
        await eventually(box.closed)

    titles = [message["title"] for message in push.messages]
    assert titles[2:] == ["12 quotas are above a threshold", "12 alerts are resolved"]
    assert len(titles) == 4
    assert push.problems == []
    assert await box.books(enqueued=4) == []
    assert await box.value("select bool_and(status = 'sent') from notification_history")


async def test_events_are_counted_and_ring_without_sessions(
    client: Client, push: PushService, box: Outbox
) -> None:
    await subscribe(client, push)
    for n in range(2):
        reply = await client.post(PATH, json=[event(f"{n}-{k}") for k in range(5)] * 2)
        assert reply.json["accepted"] == reply.json["duplicates"] == 5
    await push.wait(1)
    await eventually(box.closed)

    assert push.messages[-1]["quota"] == "counted"
    assert await box.value("select sum(tokens_used)::int from token_usage") == 950


def event(key: str) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {"id": key, "time": now, "provider": "openai", "model": "gpt-5", "inputTokens": 95}
