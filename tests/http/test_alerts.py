"""``/api/token-monitor/alerts``: seen and acknowledged by those who may."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.http.client import Client
from tests.http.people import acting
from tests.support.bell import Bell

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/api/token-monitor/alerts"


async def listed(client: Client, **query: Any) -> list[Any]:
    reply = await client.get(PATH, params=query)
    assert reply.status == 200, reply.body
    return list(reply.json["items"])


async def users(client: Client, **query: Any) -> set[str | None]:
    return {item["userId"] for item in await listed(client, **query)}


async def alert_of(it: Bell, state: UUID) -> str:
    return str(await it.value("select id from alerts where state_id = $1", state))


# --- what is shown -------------------------------------------------------------------------


async def test_an_alert_is_shown_from_its_crossing_to_its_end(daemon: Client, it: Bell) -> None:
    ops = acting(daemon, "ops")
    state = await it.report(99_999, 100_000, user="ada")

    [alert] = await listed(ops)
    started = alert.pop("startedAt")
    assert started.endswith("Z")
    assert alert == {
        "id": await alert_of(it, state),
        "stateId": str(state),
        "kind": "threshold",
        "status": "firing",
        "userId": "ada",
        "quota": "reported",
        "provider": "openai",
        "model": "gpt-5",
        "level": 90,
        "seq": 1,
        "tokensUsed": 99_999,
        "tokenLimit": 100_000,
        "percentage": 99.99,
        "reason": None,
        "acknowledgedAt": None,
        "acknowledgedBy": None,
        "endedAt": None,
        "subject": None,
        "exhaustsAt": None,
    }

    await it.report(1, 100_000, user="ada")
    assert await listed(ops) == []
    [ended] = await listed(ops, status="resolved")
    assert (ended["id"], ended["status"], ended["reason"]) == (alert["id"], "resolved", "fell")
    assert ended["endedAt"] >= ended["startedAt"]
    assert (ended["seq"], ended["percentage"]) == (2, 0)
    assert await listed(ops, status="all") == [ended]


async def test_filters_are_shell_patterns(daemon: Client, it: Bell) -> None:
    ops = acting(daemon, "ops")
    await it.report(95, provider="openai", user="ada")
    await it.report(95, provider="anthropic", user="bob")
    await it.report(95, provider="openai", user="")

    assert await users(ops, provider="open*") == {"ada", None}
    assert await users(ops, userId="") == {None}
    assert await users(ops, userId="*a*") == {"ada"}
    assert await users(ops, kind="threshold") == {"ada", "bob", None}
    assert await users(ops, kind="f*") == set()
    assert await users(ops, model="gpt-5", quota="report??") == {"ada", "bob", None}


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("status=ringing&limit=x&cursor=x", {"status", "limit", "cursor"}),
        ("kind=%00", {"kind"}),
        ("cursor=WyIyMDI2LTAxLTAxVDAwOjAwOjAwIiwgIngiXQ==", {"cursor"}),
    ],
)
async def test_every_wrong_parameter_is_named(
    guarded: Client, query: str, fields: set[str]
) -> None:
    reply = await acting(guarded, "ops").get(f"{PATH}?{query}")

    assert {name for name, _ in reply.fields()} == fields


async def test_parts_hold_each_alert_once_while_others_come(daemon: Client, it: Bell) -> None:
    ops = acting(daemon, "ops")
    before = [await alert_of(it, await it.report(95, model=f"m{n}")) for n in range(11)]
    await it.execute("update alerts set started_at = date_trunc('day', started_at)")
    found: list[str] = []
    query = {"limit": "3"}
    for n in range(100):
        part = (await ops.get(PATH, params=query)).json
        found += [item["id"] for item in part["items"]]
        if part["nextCursor"] is None:
            break
        query["cursor"] = part["nextCursor"]
        await it.report(95, model=f"later {n}")

    assert found == sorted(before, reverse=True)


async def test_who_has_the_list_already_is_told_so(daemon: Client, it: Bell) -> None:
    await it.report(95)
    ops = acting(daemon, "ops")
    tag = (await ops.get(PATH)).headers["ETag"]

    assert (await ops.get(PATH, headers={"If-None-Match": tag})).status == 304
    await it.report(100)
    assert (await ops.get(PATH, headers={"If-None-Match": tag})).status == 200


# --- acknowledging -------------------------------------------------------------------------


async def acknowledge(client: Client, alert: object) -> Any:
    return await client.post(f"{PATH}/{alert}/ack")


async def test_an_alert_is_acknowledged_once_until_it_gets_worse(daemon: Client, it: Bell) -> None:
    alert = await alert_of(it, await it.report(80, user="ada"))

    first = (await acknowledge(acting(daemon, "ada"), alert)).data
    again = (await acknowledge(acting(daemon, "ops"), alert)).data

    assert first["acknowledgedBy"] == "ada"
    assert first["acknowledgedAt"].endswith("Z")
    assert again == first
    assert await listed(acting(daemon, "reader")) == [first]
    [state] = (await acting(daemon, "ada").get("/api/token-monitor/usage")).json["items"]
    assert state["alert"]["acknowledgedBy"] == "ada"
    await it.report(81, user="ada")
    assert await listed(acting(daemon, "ada")) == [first]
    await it.report(95, user="ada")
    [worse] = await listed(acting(daemon, "ada"))
    assert (worse["acknowledgedAt"], worse["acknowledgedBy"], worse["level"]) == (None, None, 90)
    assert (await acknowledge(acting(daemon, "ops"), alert)).data["acknowledgedBy"] == "ops"


async def test_of_many_who_acknowledge_at_once_one_is_first(daemon: Client, it: Bell) -> None:
    alert = await alert_of(it, await it.report(80, user="ada"))
    people = [acting(daemon, name) for name in ("ada", "ops") * 8]

    replies = await asyncio.gather(*(acknowledge(person, alert) for person in people))

    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1


async def test_what_has_ended_cannot_be_acknowledged(daemon: Client, it: Bell) -> None:
    alert = await alert_of(it, await it.report(80, user="ada"))
    await it.report(1, user="ada")

    (await acknowledge(acting(daemon, "ada"), alert)).problem(409)
    (await acknowledge(acting(daemon, "bob"), alert)).problem(404)

    assert await it.value("select acknowledged_at from alerts") is None


# --- who may -------------------------------------------------------------------------------


async def test_a_user_sees_and_acknowledges_the_own_alerts_only(daemon: Client, it: Bell) -> None:
    alerts = {user: await alert_of(it, await it.report(80, user=user)) for user in ("ada", "")}
    bob = acting(daemon, "bob")

    assert await listed(bob, status="all") == []
    (await bob.get(PATH, params={"userId": "ada"})).problem(403)
    for alert in (*alerts.values(), uuid4()):
        (await acknowledge(bob, alert)).problem(404)
        if alert != alerts["ada"]:
            (await acknowledge(acting(daemon, "ada"), alert)).problem(404)
    for name in ("reader", "pusher", "apps"):
        (await acknowledge(acting(daemon, name), alerts["ada"])).problem(403)
    assert await it.value("select count(acknowledged_at) from alerts") == 0
    assert await users(acting(daemon, "ada")) == {"ada"}
    assert await users(acting(daemon, "reader")) == {"ada", None}
