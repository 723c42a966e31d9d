"""``/usage/history``, and the burn in lists and metrics, from samples that a daemon takes."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from quotabell.store.queries import load
from tests.http.client import Client, serving, snapshot
from tests.http.people import acting
from tests.support.bell import Bell, bell
from tests.support.daemon import configure
from tests.support.postgres import Database
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

USAGE = "/api/token-monitor/usage"
PATH = USAGE + "/history"
WINDOW = timedelta(minutes=10)
NOBODYS = UUID("00000000-0000-4000-8000-000000000000")


async def burn(it: Bell, user: str = "", *, limit: int = 100, period_end: Any = None) -> UUID:
    """A state of which 60 tokens were used in the last ten minutes: 0.1 a second."""
    take = (WINDOW, timedelta(0), UUID(int=0), 100)
    async with it.connection.transaction():
        # Until all of it is there the daemon, whose turn may come any moment, takes none itself.
        await it.execute("lock table usage_burn in share row exclusive mode")
        await it.execute("delete from usage_burn")
        await it.report(0, limit, user=user, period_end=period_end)
        await it.value(load("samples")["take"], *take)
        await it.execute("update usage_samples set time = time - $1::interval", WINDOW)
        await it.execute("update usage_burn set sampled_at = sampled_at - $1::interval", WINDOW)
        state = await it.report(60, limit, user=user, period_end=period_end)
        await it.value(load("samples")["take"], *take)
    return state


async def test_a_daemon_samples_what_is_used(database: Database, tmp_path: Path) -> None:
    async with bell(database.dsn) as it:
        state = await it.report(7)
        async with serving(configure(tmp_path, database.dsn)) as client:

            async def shown() -> Any:
                return (await client.get(PATH, params={"stateId": str(state)})).json["items"]

            [sample] = await eventually(shown)
    assert sample.pop("time").endswith("Z")
    assert sample == {"tokensUsed": 7, "tokenLimit": 100, "burnTokensPerSecond": None}


async def test_the_burn_and_where_it_leads_are_shown(daemon: Client, it: Bell) -> None:
    state = await burn(it, "ada")
    ops = acting(daemon, "ops")

    [item] = (await ops.get(USAGE)).json["items"]
    history = (await ops.get(PATH, params={"stateId": str(state)})).json

    assert item["burnTokensPerSecond"] == 0.1
    sampled = await it.value("select sampled_at from usage_burn")
    assert datetime.fromisoformat(item["exhaustsAt"]) == sampled + timedelta(seconds=400)
    assert [s["burnTokensPerSecond"] for s in history["items"]] == [None, 0.1]
    assert [s["tokensUsed"] for s in history["items"]] == [0, 60]
    assert history["nextCursor"] is None

    async def exposed() -> Any:
        return await ops.metric("quotabell_quota_burn_tokens_per_second", user="ada")

    assert await eventually(exposed) == 0.1
    reached = await ops.metric("quotabell_quota_exhaustion_timestamp_seconds", user="ada")
    assert reached == pytest.approx((sampled + timedelta(seconds=400)).timestamp())


async def test_a_limit_that_is_not_reached_in_the_period_has_no_time(
    daemon: Client, it: Bell
) -> None:
    await burn(it, period_end=await it.value("select now() + interval '399 seconds'"))
    ops = acting(daemon, "ops")

    [item] = (await ops.get(USAGE)).json["items"]

    assert (item["burnTokensPerSecond"], item["exhaustsAt"]) == (0.1, None)

    async def exposed() -> Any:
        return await ops.metric("quotabell_quota_burn_tokens_per_second", user="")

    assert await eventually(exposed) == 0.1
    assert await ops.metric("quotabell_quota_exhaustion_timestamp_seconds", user="") is None


async def test_what_is_not_known_has_no_series(daemon: Client, it: Bell) -> None:
    ops = acting(daemon, "ops")
    await ops.update(snapshot(model="new"))

    names = {s.name for s in await ops.samples("usage") if s.labels.get("model") == "new"}

    assert "quotabell_quota_used_tokens" in names
    assert not [name for name in names if "burn" in name or "exhaustion" in name]


async def test_the_burn_leaves_the_metrics_with_its_state(daemon: Client, it: Bell) -> None:
    state = await burn(it, "leaver")
    ops = acting(daemon, "ops")
    name = "quotabell_quota_burn_tokens_per_second"

    async def exposed() -> Any:
        return await ops.metric(name, user="leaver")

    await eventually(exposed)
    await ops.call("DELETE", f"{USAGE}/{state}")

    assert await exposed() is None


async def test_history_is_of_a_time_and_thinned(daemon: Client, it: Bell) -> None:
    state = await burn(it)
    reader = acting(daemon, "reader")
    now = await it.value("select now()")

    async def used(**query: Any) -> list[int]:
        reply = await reader.get(PATH, params={"stateId": str(state)} | query)
        assert reply.status == 200, reply.body
        return [sample["tokensUsed"] for sample in reply.json["items"]]

    assert await used() == [0, 60]
    assert await used(maxPoints="1") == [60]
    assert await used(**{"to": (now - timedelta(minutes=5)).isoformat()}) == [0]
    assert await used(**{"from": (now - timedelta(minutes=5)).isoformat()}) == [60]
    await it.execute("update usage_samples set time = time - interval '1 day' where used = 0")
    assert await used() == [60]
    tag = (await reader.get(PATH, params={"stateId": str(state), "to": now.isoformat()})).headers
    again = await reader.get(
        PATH,
        params={"stateId": str(state), "to": now.isoformat()},
        headers={"If-None-Match": tag["ETag"]},
    )
    assert again.status == 304


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("", {"stateId"}),
        ("stateId=7&from=x&to=y&maxPoints=0", {"stateId", "from", "to", "maxPoints"}),
        (f"stateId={NOBODYS}&from=2026-01-02&to=2026-01-01", {"from"}),
        (f"stateId={NOBODYS}&to=0001-01-01T00:00:00Z", {"from"}),
        (f"stateId={NOBODYS}&maxPoints=5001", {"maxPoints"}),
    ],
)
async def test_every_wrong_parameter_is_named(
    guarded: Client, query: str, fields: set[str]
) -> None:
    reply = await acting(guarded, "ops").get(f"{PATH}?{query}")

    assert {name for name, _ in reply.fields()} == fields


async def test_a_user_sees_the_own_history_only(daemon: Client, it: Bell) -> None:
    state = await burn(it, "ada")
    query = {"stateId": str(state)}

    assert (await acting(daemon, "ada").get(PATH, params=query)).json["items"]
    (await acting(daemon, "bob").get(PATH, params=query)).problem(404)
    (await acting(daemon, "bob").get(PATH, params={"stateId": str(uuid4())})).problem(404)
    [own] = (await acting(daemon, "ada").get(USAGE)).json["items"]
    assert own["burnTokensPerSecond"] == 0.1
