"""``/api/token-monitor/sources``: who reports to a daemon, and how it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.http.client import Client, serving, snapshot
from tests.http.people import TOKENS, acting
from tests.support.bell import Bell
from tests.support.daemon import configure
from tests.support.postgres import Database, connected
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/api/token-monitor/sources"
EVENTS = "/api/token-monitor/events"
EVENT = {"provider": "openai", "model": "gpt-5", "inputTokens": 1}


async def sources(client: Client) -> dict[str, Any]:
    reply = await client.get(PATH)
    assert reply.status == 200, reply.body
    return {item.pop("name"): item for item in reply.json["items"]}


async def test_reports_and_refusals_are_counted_by_way_in(daemon: Client, it: Bell) -> None:
    apps, reader = acting(daemon, "apps"), acting(daemon, "reader")
    await apps.update([snapshot(), snapshot(model="other")])
    await apps.post(EVENTS, json=[EVENT | {"source": "checkout"}] * 3 + [EVENT])
    await apps.post(EVENTS, json=[EVENT, {"provider": "", "secretWord": 7}])
    await apps.update(b"{")
    await apps.update([snapshot(tokensUsed=-1), snapshot(model="secret\0")])

    async def counted() -> Any:
        found = await sources(reader)
        return found if found.get("apps/update", {}).get("rejected") == 3 else None

    found = await eventually(counted)

    update, events = found["apps/update"], found["apps/events"]
    assert (update["events"], update["rejected"], update["kind"]) == (2, 3, "update")
    assert update["lastError"].endswith(": model, tokensUsed")
    assert (events["events"], events["rejected"]) == (2, 1)
    assert found["apps/events/checkout"]["events"] == 3
    assert found["apps/events/checkout"]["lastError"] is None
    assert "secret" not in str(found)
    for source in found.values():
        assert source["firstSeen"].endswith("Z")
        assert source["userId"] is None

    name = "quotabell_source_last_event_timestamp_seconds"
    ops = acting(daemon, "ops")

    async def exposed() -> Any:
        return await ops.metric(name, source="apps/events/checkout")

    at = await it.value(
        "select extract(epoch from last_event_at)::float8 from sources"
        " where name = 'apps/events/checkout'"
    )
    assert await eventually(exposed) == pytest.approx(at)


async def test_a_user_sees_the_own_sources_only(daemon: Client) -> None:
    for name in ("ada", "bob", "apps"):
        await acting(daemon, name).update(snapshot())

    async def counted() -> Any:
        found = await sources(acting(daemon, "reader"))
        return {"ada/update", "bob/update", "apps/update"} <= found.keys()

    await eventually(counted)
    assert {s["userId"] for s in (await sources(acting(daemon, "ada"))).values()} == {"ada"}
    assert (await sources(acting(daemon, "bob"))).keys() == {"bob/update"}


async def test_a_daemon_that_stops_writes_what_it_counted(
    database: Database, tmp_path: Path
) -> None:
    async with serving(configure(tmp_path, database.dsn, auth={"tokens": TOKENS})) as client:
        for _ in range(7):
            await acting(client, "apps").update(snapshot())

    async with connected(database.dsn) as connection:
        assert await connection.fetchval("select sum(events) from sources") == 7


async def test_sources_that_cannot_be_written_cost_no_report(
    database: Database, tmp_path: Path
) -> None:
    async with serving(configure(tmp_path, database.dsn)) as client:
        async with connected(database.dsn) as other:
            held = other.transaction()
            await held.start()
            await other.execute("lock table sources in access exclusive mode")
            for n in range(20):
                assert (await client.update(snapshot(tokensUsed=n))).status == 200
            await held.rollback()

            async def counted() -> bool:
                return await other.fetchval("select sum(events) from sources") == 20

            await eventually(counted)
