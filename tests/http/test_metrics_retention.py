"""Sums outlive the events that they are of."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.http.client import serving
from tests.support.daemon import configure
from tests.support.postgres import Database, connected
from tests.support.waiting import eventually


async def test_no_sum_falls_when_its_events_are_not_kept_any_longer(
    database: Database, tmp_path: Path
) -> None:
    async def report(age: timedelta) -> None:
        call = {"provider": "p", "model": "m", "userId": "alice", "inputTokens": 7, "costUsd": 2}
        at = (datetime.now(UTC) - age).isoformat()
        reply = await client.post("/api/token-monitor/events", json=call | {"time": at})
        assert reply.json["accepted"] == 1, reply.body

    async def events() -> int:
        return int(await connection.fetchval("select count(*) from usage_events"))

    async def only_one() -> bool:
        return await events() == 1

    async def sums() -> list[float]:
        names = ("quotabell_tokens_total", "quotabell_requests_total", "quotabell_cost_usd_total")
        found = [s for s in await client.samples("usage") if s.name in names]
        return [s.value for s in found if s.labels.get("kind", "input") == "input"]

    soon = {"evaluate_every": "100ms"}
    async with connected(database.dsn) as connection:
        async with serving(configure(tmp_path, database.dsn)) as client:
            await report(timedelta(days=9))
            await report(timedelta())
            assert (await events(), await sums()) == (2, [14, 2, 4])

        few = configure(tmp_path, database.dsn, retention={"events": "5d"}, alerts=soon)
        async with serving(few) as client:
            await eventually(only_one)
            assert await sums() == [14, 2, 4]
            await report(timedelta())
            assert await sums() == [21, 3, 6]
