"""``/metrics`` stays bounded: without users, or with those who came first."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.http.client import Client, serving, snapshot
from tests.support.daemon import configure
from tests.support.postgres import Database
from tests.support.waiting import eventually

USED = "quotabell_quota_used_tokens"
QUOTAS = [
    {"name": "own", "limit": 100, "window": "day", "per": ["user"]},
    {"name": "shared", "limit": 1000, "window": "day"},
]


async def _use(client: Client, *users: str, tokens: int = 10) -> None:
    now = datetime.now(UTC).isoformat()
    call = {"time": now, "provider": "p", "model": "m", "inputTokens": tokens, "costUsd": 0.5}
    reply = await client.post(
        "/api/token-monitor/events", json=[call | {"userId": user} for user in users]
    )
    assert reply.status == 200, reply.body


async def _shown(client: Client) -> dict[str, dict[Any, float]]:
    """Values by family and labels; no series comes twice."""
    found: dict[str, dict[Any, float]] = defaultdict(dict)
    for sample in await client.samples("usage"):
        labels = tuple(sorted(sample.labels.items()))
        assert labels not in found[sample.name], sample
        found[sample.name][labels] = sample.value
    return found


def _by(shown: dict[Any, float], label: str) -> dict[str | None, float]:
    return {dict(labels).get(label): value for labels, value in shown.items()}


async def test_without_users_sums_are_of_all_and_quotas_of_users_are_counts(
    database: Database, tmp_path: Path
) -> None:
    config = configure(tmp_path, database.dsn, quotas=QUOTAS, metrics={"per_user": False})
    async with serving(config) as client:
        await client.update([snapshot(userId="alice"), snapshot(tokensUsed=70)])
        await _use(client, "alice", "bob", "bob", "", tokens=40)
        shown = await _shown(client)

        assert not any("user" in dict(key) for family in shown.values() for key in family)
        tokens = _by(shown["quotabell_tokens_total"], "kind")
        assert (tokens["input"], tokens["output"]) == (160, 0)
        assert list(shown["quotabell_requests_total"].values()) == [4]
        assert list(shown["quotabell_cost_usd_total"].values()) == [2.0]
        assert _by(shown[USED], "quota") == {"shared": 160, "reported": 70, "own": 40}
        bands = shown["quotabell_quota_subjects"]
        assert len(bands) == 3 * 5
        own = {dict(k)["band"]: v for k, v in bands.items() if dict(k)["quota"] == "own"}
        assert own == {"0-50": 2, "50-75": 0, "75-90": 1, "90-100": 0, "over": 0}

        await _use(client, "bob", tokens=10)
        shown = await _shown(client)
        assert list(shown["quotabell_requests_total"].values()) == [5]
        bands = shown["quotabell_quota_subjects"]
        own = {dict(k)["band"]: v for k, v in bands.items() if dict(k)["quota"] == "own"}
        assert own == {"0-50": 2, "50-75": 0, "75-90": 0, "90-100": 1, "over": 0}


async def test_users_beyond_the_bound_are_one_for_good_on_every_replica(
    database: Database, tmp_path: Path
) -> None:
    """Seven series a user: two kinds, calls, cost; used, limit, ratio and reset of a quota."""
    few = {"quotas": QUOTAS[:1], "metrics": {"max_series": 60}}
    first = configure(tmp_path / "first", database.dsn, **few)
    second = configure(tmp_path / "second", database.dsn, **few)
    async with serving(second) as other:
        async with serving(first) as client:
            await _use(client, "alice")
            await _use(client, "bob", "other")
            shown = await _shown(client)
            assert set(_by(shown["quotabell_requests_total"], "user")) == {"alice", "bob", "other"}

            assert await client.metric(USED) is None  # the other one has the lease
            assert await other.metric(USED) == 30

            late = [f"late-{n}" for n in range(30)]
            await _use(client, *late)
            shown = await _shown(client)  # at once: no scrape shows more
            assert sum(map(len, shown.values())) <= 60
            calls = _by(shown["quotabell_requests_total"], "user")
            assert {"alice", "bob", "other"} <= calls.keys() < {"alice", "bob", "other", *late}
            assert sum(calls.values()) == 33  # each call is in just one series
            assert calls["other"] == 33 - (len(calls) - 1)
            assert set(_by(shown[USED], "user")) == calls.keys() - {"other"}
            own = {dict(k)["band"]: v for k, v in shown["quotabell_quota_subjects"].items()}
            assert own["0-50"] == 33

            await _use(client, "latest", "alice", late[-1])  # shown at once, where it belongs
            after = _by((await _shown(client))["quotabell_requests_total"], "user")
            assert after == calls | {"alice": 2, "other": calls["other"] + 2}

        async def follows() -> bool:
            return _by((await _shown(other))["quotabell_requests_total"], "user") == after

        await eventually(follows, timeout=3)
    many = few | {"metrics": {"max_series": 100_000}}
    async with serving(configure(tmp_path / "first", database.dsn, **many)) as client:
        assert _by((await _shown(client))["quotabell_requests_total"], "user") == after


async def test_named_users_with_ever_more_series_are_folded_in_turn(
    database: Database, tmp_path: Path
) -> None:
    config = configure(tmp_path, database.dsn, metrics={"max_series": 40})
    async with serving(config) as client:
        seen: list[tuple[int, int, set[str]]] = []
        for step in range(8):
            for user in ("early", "late"):
                reports = [snapshot(model=f"m{n}", userId=user) for n in range(2 * step)]
                if reports:
                    await client.update(reports)
            await _use(client, "early")
            await _use(client, "late")
            shown = await _shown(client)
            assert sum(map(len, shown.values())) <= 40
            calls = _by(shown["quotabell_requests_total"], "user")
            assert sum(calls.values()) == 2 * (step + 1)
            seen.append((step, int(calls.get("other", 0)), {str(user) for user in calls}))

    assert seen[0][2] == {"early", "late"}
    assert {"early", "other"} in [users for _, _, users in seen]
    assert seen[-1][2] == {"other"}
    others = [other for _, other, _ in seen]
    assert others == sorted(others)


async def test_a_removed_state_is_counted_no_more(database: Database, tmp_path: Path) -> None:
    async with serving(configure(tmp_path, database.dsn)) as client:
        await client.update([snapshot(tokensUsed=9_500), snapshot(model="no", tokenLimit=None)])
        bands = _by((await _shown(client))["quotabell_quota_subjects"], "band")
        assert bands == {"0-50": 0, "50-75": 0, "75-90": 0, "90-100": 1, "over": 0}

        listed = await client.get("/api/token-monitor/usage", params={"model": "grok-3"})
        (state,) = listed.json["items"]
        removed = await client.call("DELETE", f"/api/token-monitor/usage/{state['id']}")
        assert removed.status == 204

        shown = await _shown(client)
        assert set(_by(shown["quotabell_quota_subjects"], "band").values()) == {0}
        assert set(_by(shown[USED], "model")) == {"no"}
