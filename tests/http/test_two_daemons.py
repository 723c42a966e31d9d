"""Nothing is global: two daemons in one process do not know of each other."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.http.client import STATUS, Client, serving, snapshot
from tests.http.test_outage import cut
from tests.support.daemon import configure
from tests.support.postgres import TEMPLATE, Cluster


async def _counted(client: Client) -> dict[str, float]:
    return {
        s.labels["source"]: s.value
        for s in await client.samples("health")
        if s.name == "quotabell_ingest_events_total"
        and s.labels["outcome"] == "accepted"
        and s.value
    }


async def _exposed(client: Client) -> dict[tuple[str, str], float]:
    return {
        (s.labels["model"], s.labels["user"]): s.value
        for s in await client.samples("usage")
        if s.name == "quotabell_quota_used_tokens"
    }


async def test_two_daemons_in_one_process_do_not_meet(tmp_path: Path, postgres_18: Cluster):
    databases = [postgres_18.create_database(TEMPLATE) for _ in range(2)]
    try:
        tokens = [
            {"name": "theirs", "token": "the-token-of-the-second", "scopes": ["admin", "ingest"]}
        ]
        one = configure(
            tmp_path / "one", databases[0].dsn, ingest={"max_batch": 2}, thresholds={"default": [5]}
        )
        two = configure(tmp_path / "two", databases[1].dsn, auth={"tokens": tokens})
        async with serving(one) as first, serving(two) as stranger:
            second = stranger.with_token("the-token-of-the-second")
            assert first.url != second.url
            await first.update([snapshot(tokensUsed=1), snapshot(model="a", tokensUsed=2)])
            await second.update([snapshot(tokensUsed=3)] * 3)

            assert (await first.update([snapshot()] * 3)).status == 422
            assert (await stranger.update(snapshot())).status == 401
            assert (await first.update(snapshot(tokensUsed=1))).status == 200
            assert await _counted(first) == {"local/update": 3}
            assert await _counted(second) == {"theirs/update": 3}
            assert await _exposed(first) == {("grok-3", ""): 1, ("a", ""): 2}
            assert await _exposed(second) == {("grok-3", ""): 3}
            configs = [(await c.get("/-/config")).json for c in (first, second)]
            assert [c["thresholds"]["default"] for c in configs] == [[5.0], [75.0, 90.0, 100.0]]
            assert [c["ingest"]["max_batch"] for c in configs] == [2, 10000]

            await asyncio.to_thread(cut, databases[0])
            assert (await first.update(snapshot())).status == 503
            assert (await second.update(snapshot())).status == 200
            assert (await first.get(STATUS)).status == 503
            assert (await second.get(STATUS)).status == 200
            assert await first.metric("quotabell_database_up") == 0
            assert await second.metric("quotabell_database_up") == 1
    finally:
        for database in databases:
            postgres_18.drop_database(database.name)
