"""``POST /api/token-monitor/update``: what is reported is stored, and the answer says what is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.http.client import STATUS, UPDATE, Client, raw, serving, snapshot
from tests.support.daemon import configure

pytestmark = pytest.mark.asyncio(loop_scope="module")

_numbers = count()


def fresh(**changes: Any) -> dict[str, Any]:
    """A snapshot of a model that no other test reports."""
    return snapshot(model=f"model-{next(_numbers)}") | changes


def ago(seconds: float) -> str:
    return (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()


async def curl(url: str, path: str, data: str | None = None) -> Any:
    """The request that ``curl [-X POST -H 'Content-Type: application/json' -d DATA]`` makes."""
    head = [
        f"{'GET' if data is None else 'POST'} {path} HTTP/1.1",
        f"Host: {url.removeprefix('http://')}",
        "User-Agent: curl/7.88.1",
        "Accept: */*",
    ]
    if data is not None:
        head += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    request = "\r\n".join([*head, "Connection: close", "", data or ""])
    status, answer = await raw(url, request.encode())
    assert status == 200, answer
    return json.loads(answer.partition(b"\r\n\r\n")[2])


async def test_the_two_curls_of_the_original_work(client: Client):
    status = await curl(client.url, STATUS)
    updated = await curl(
        client.url,
        UPDATE,
        '{"provider":"grok","model":"grok-3","tokensUsed":1000,"tokenLimit":10000,'
        '"userId":"test-user"}',
    )

    assert status["status"] == "ok"
    assert status["databaseConnected"] is True
    assert updated["success"] is True
    at = datetime.fromisoformat(updated["data"].pop("timestamp"))
    assert abs(datetime.now(UTC) - at) < timedelta(seconds=10)
    assert updated["data"] == {
        "provider": "grok",
        "model": "grok-3",
        "userId": "test-user",
        "quota": "reported",
        "tokensUsed": 1000,
        "tokenLimit": 10000,
        "percentage": 10.0,
        "applied": True,
    }


@pytest.mark.parametrize("user", [{}, {"userId": None}, {"userId": ""}])
async def test_nobody_in_particular_is_shown_as_null(client: Client, user: dict[str, Any]):
    reply = await client.update(fresh() | user)

    assert reply.data["userId"] is None


async def test_an_absent_and_an_empty_user_are_the_same_one(client: Client):
    body = fresh(timestamp=ago(10))
    await client.update(body)
    older = await client.update(body | {"userId": None, "timestamp": ago(20), "tokensUsed": 1})

    assert older.data["applied"] is False
    assert older.data["tokensUsed"] == 1000


@pytest.mark.parametrize("limit", [0, -1, None])
async def test_without_a_known_limit_there_is_no_percentage(client: Client, limit: int | None):
    body = fresh(tokenLimit=limit)
    data = (await client.update(body)).data

    assert (data["tokenLimit"], data["percentage"]) == (None, None)
    names = {s.name for s in await client.samples() if s.labels.get("model") == body["model"]}
    assert names == {"quotabell_quota_used_tokens"}


@pytest.mark.parametrize(
    ("used", "limit", "shown"),
    [
        (99_999, 100_000, 99.99),
        (29, 10_000, 0.29),
        (57, 10_000, 0.57),
        (100, 100, 100.0),
        (0, 100, 0.0),
        (1, 3, 33.33),
        (2, 3, 66.66),
        (250, 100, 250.0),
        (2**63 - 1, 1, 922337203685477580800.0),
    ],
)
async def test_the_percentage_is_rounded_down(client: Client, used: int, limit: int, shown: float):
    reply = await client.update(fresh(tokensUsed=used, tokenLimit=limit))

    assert reply.data["percentage"] == pytest.approx(shown, rel=1e-15)
    assert reply.data["tokensUsed"] == used


async def test_an_array_is_answered_with_an_array_in_its_order(client: Client):
    bodies = [fresh(tokensUsed=n) for n in range(5)]
    data = (await client.update(bodies)).data

    assert [(d["model"], d["tokensUsed"], d["applied"]) for d in data] == [
        (b["model"], b["tokensUsed"], True) for b in bodies
    ]
    assert isinstance((await client.update([fresh()])).data, list)


async def test_several_reports_of_one_quota_in_an_array_are_taken_in_turn(client: Client):
    body = fresh()
    first, late, last = (
        await client.update(
            [
                body | {"tokensUsed": 1, "timestamp": ago(30)},
                body | {"tokensUsed": 2, "timestamp": ago(60)},
                body | {"tokensUsed": 3, "timestamp": ago(10)},
            ]
        )
    ).data

    assert [first["applied"], late["applied"], last["applied"]] == [True, False, True]
    assert [first["tokensUsed"], late["tokensUsed"], last["tokensUsed"]] == [1, 3, 3]
    stored = (await client.update(body | {"timestamp": ago(300)})).data
    assert (stored["tokensUsed"], stored["applied"]) == (3, False)


async def test_an_older_report_is_answered_with_what_is_stored(client: Client):
    body, newer = fresh(), ago(10)
    await client.update(body | {"timestamp": newer, "tokensUsed": 7, "tokenLimit": 70})
    data = (await client.update(body | {"timestamp": ago(20), "tokensUsed": 5})).data

    assert data["applied"] is False
    assert (data["tokensUsed"], data["tokenLimit"], data["percentage"]) == (7, 70, 10.0)
    assert datetime.fromisoformat(data["timestamp"]) == datetime.fromisoformat(newer)


async def test_of_equally_old_reports_the_later_one_wins(client: Client):
    body = fresh(timestamp=ago(10))
    await client.update(body | {"tokensUsed": 1})
    data = (await client.update(body | {"tokensUsed": 2})).data

    assert (data["tokensUsed"], data["applied"]) == (2, True)


async def test_a_fall_is_a_fall(client: Client):
    body = fresh()
    await client.update(body | {"tokensUsed": 9})
    data = (await client.update(body | {"tokensUsed": 3})).data

    assert (data["tokensUsed"], data["applied"]) == (3, True)


async def test_a_time_ahead_within_the_skew_counts_as_now(client: Client):
    body = fresh()
    ahead = (await client.update(body | {"timestamp": ago(-120)})).data
    later = (await client.update(body | {"tokensUsed": 5})).data

    at = datetime.fromisoformat(ahead["timestamp"])
    assert abs(at - datetime.now(UTC)) < timedelta(seconds=10)
    assert later["applied"] is True


async def test_times_are_shown_in_utc(client: Client):
    data = (await client.update(fresh(timestamp="2026-01-01T01:00:00+01:00"))).data

    assert data["timestamp"] == "2026-01-01T00:00:00Z"


async def test_users_quotas_and_models_do_not_mix(client: Client):
    body = fresh()
    others = [
        body,
        body | {"userId": "a"},
        body | {"userId": "b"},
        body | {"provider": "p2"},
        body | {"provider": body["provider"] + body["model"], "model": "x"},
    ]
    await client.update([o | {"tokensUsed": n} for n, o in enumerate(others)])
    old = await client.update([o | {"timestamp": ago(500)} for o in others])

    assert [d["tokensUsed"] for d in old.data] == [0, 1, 2, 3, 4]


async def test_what_was_reported_outlives_a_restart(tmp_path: Path, dsn: str):
    config = configure(tmp_path, dsn)
    body = fresh()
    newer = ago(10)
    async with serving(config) as client:
        await client.update(body | {"timestamp": newer, "tokensUsed": 42})
    async with serving(config) as client:
        older = (await client.update(body | {"timestamp": ago(60), "tokensUsed": 1})).data
        shown = await client.metric("quotabell_quota_used_tokens", model=body["model"])
        equal = (await client.update(body | {"timestamp": newer, "tokensUsed": 43})).data

    assert (older["applied"], older["tokensUsed"], shown) == (False, 42, 42)
    assert (equal["applied"], equal["tokensUsed"]) == (True, 43)


async def test_reports_are_counted_by_what_became_of_them(client: Client):
    async def counted() -> dict[str, float]:
        return {
            s.labels["outcome"]: s.value
            for s in await client.samples("health")
            if s.name == "quotabell_ingest_events_total" and s.labels["source"] == "local/update"
        }

    body = fresh(timestamp=ago(10))
    await client.update(body)
    before = await counted()
    await client.update([body, body | {"timestamp": ago(20)}, fresh()])
    await client.update([fresh(), fresh(tokensUsed=-1, provider=""), fresh(tokenLimit="x")])
    await client.update("{")
    after = await counted()

    assert {k: after[k] - before[k] for k in after} == {
        "accepted": 2,
        "older": 1,
        "rejected": 3,
        "unavailable": 0,
    }
