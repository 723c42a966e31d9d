"""Many alerts at once, through a whole daemon: one message for each recipient."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.channels.test_webhook import SECRETS
from tests.http.client import Client, serving
from tests.http.test_bell import box, push, subscribe  # noqa: F401
from tests.support.daemon import configure
from tests.support.outbox import Outbox
from tests.support.pushservice import Answer, PushService
from tests.support.receiver import Receiver
from tests.support.waiting import eventually

# ruff: noqa: F811

STORM = 1_000


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture(params=["listening", "polling"])
async def client(
    request: pytest.FixtureRequest,
    dsn: str,
    push: PushService,
    receiver: Receiver,
    tmp_path: Path,
) -> AsyncIterator[Client]:
    config = configure(
        tmp_path,
        dsn,
        push={"trusted_origins": [push.origin]},
        database={"url": dsn, "listen_url": "off" if request.param == "polling" else ""},
        alerts={"min_interval": 0, "evaluate_every": "1s"},
        channels=[
            {"name": "hook", "type": "webhook", "url": receiver.origin, "secret": SECRETS[0]}
        ],
    )
    async with serving(config) as client:
        yield client


def reports(percent: int, number: int = STORM) -> list[dict[str, Any]]:
    return [
        {
            "provider": "openai",
            "model": "gpt-5",
            "userId": f"user-{n}",
            "tokensUsed": percent * 100 + n % 10,
            "tokenLimit": 10_000,
        }
        for n in range(number)
    ]


async def test_a_storm_is_one_message_for_each_and_so_is_its_end(
    client: Client, push: PushService, receiver: Receiver, box: Outbox
) -> None:
    phones = [await subscribe(client, push) for _ in range(2)]
    own = await subscribe(client, push, "user-7")
    begun = time.perf_counter()
    answer = await client.update(reports(91))
    answered = time.perf_counter() - begun
    assert len(answer.data) == STORM
    await eventually(lambda: len(push.arrivals) >= 3 and receiver.calls, timeout=30)
    took = time.perf_counter() - begun
    print(f"{STORM} crossings: answered after {answered:.2f} s, all told after {took:.2f} s")
    await eventually(box.closed, timeout=30)
    for phone in phones:
        [arrival] = push.of(phone)
        message = arrival.message
        assert message["title"] == f"{STORM:,} quotas are above a threshold"
        assert message["body"].startswith("user-109 openai / gpt-5 91 %, ")
        assert message["body"].endswith(f" and {STORM - 10:,} more")
        assert (message["state"], message["url"]) == ("firing", "/")
        assert arrival.headers["urgency"] == "high"
    [arrival] = push.of(own)
    assert arrival.message["title"] == "openai / gpt-5 is at 91 %"
    assert await box.statuses() == {"sent": 4}
    assert await box.books(enqueued=4) == []

    later = await subscribe(client, push)
    await client.update(reports(10))
    await eventually(lambda: len(push.arrivals) >= 6 and len(receiver.calls) >= 2, timeout=30)
    await eventually(box.closed, timeout=30)

    assert push.of(later) == []
    for phone in phones:
        first, second = push.of(phone)
        assert second.message["title"] == f"{STORM:,} alerts are resolved"
        # All of them ended, so their message gives way to this.
        assert second.headers["topic"] == first.headers["topic"]
        assert second.message["tag"] == first.message["tag"]
    assert [a.message["state"] for a in push.of(own)] == ["firing", "resolved"]
    told = [Webhook(SECRETS[0]).verify(call.body, call.headers) for call in receiver.calls]
    assert [one["type"] for one in told] == ["alert.firing", "alert.resolved"]
    for one in told:
        data = one["data"]
        assert (data["count"], len(data["members"]), data["truncated"]) == (
            STORM, 100, STORM - 100,
        )  # fmt: skip
        assert {m["userId"] for m in data["members"]} <= {f"user-{n}" for n in range(STORM)}
    assert all(len(call.body) < 64_000 for call in receiver.calls)
    assert push.problems == []
    assert await box.statuses() == {"sent": 8}
    rows = await box.rows(
        "select status, count(*) as n from notification_history where alert_id is not null "
        "group by status"
    )
    assert rows == [{"status": "sent", "n": 2 * STORM}]
    assert await box.books(enqueued=8) == []
    [entry] = (await client.get("/api/push/history?limit=1&status=sent")).json["items"]
    assert entry["status"] == "sent"


async def test_a_single_crossing_does_not_wait_for_others(
    client: Client, push: PushService, box: Outbox
) -> None:
    await subscribe(client, push)
    for n in range(5):
        await client.update(reports(91, n + 1)[n:])
        [*_, arrival] = await push.wait(n + 1)
        assert arrival.message["title"] == "openai / gpt-5 is at 91 %"
    await eventually(box.closed)
    assert await box.statuses() == {"sent": 10}


async def test_the_end_of_a_storm_waits_for_what_is_under_way(
    client: Client, push: PushService, receiver: Receiver, box: Outbox
) -> None:
    reached, missed = [await subscribe(client, push) for _ in range(2)]
    push.script(Answer(500), Answer(500), to=reached)
    push.script(Answer(400), to=missed)
    await client.update(reports(91, 20))
    await eventually(lambda: push.of(reached) and push.of(missed))
    await client.update(reports(10, 20))
    await eventually(lambda: len(push.of(reached)) >= 4, timeout=30)
    await eventually(box.closed, timeout=30)

    assert [a.message["state"] for a in push.of(reached)] == ["firing"] * 3 + ["resolved"]
    assert [a.message["state"] for a in push.of(missed)] == ["firing"]
    assert [json.loads(call.body)["type"] for call in receiver.calls] == [
        "alert.firing", "alert.resolved",
    ]  # fmt: skip
    assert await box.books() == []
