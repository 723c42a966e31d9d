"""``/api/token-monitor/usage``: quota states, to whom they may be shown, in parts."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from tests.http.client import Client
from tests.http.people import acting
from tests.support.bell import Bell
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/api/token-monitor/usage"


async def listed(client: Client, **query: Any) -> list[Any]:
    reply = await client.get(PATH, params=query)
    assert reply.status == 200, reply.body
    return list(reply.json["items"])


async def models(client: Client, **query: Any) -> set[str]:
    return {item["model"] for item in await listed(client, **query)}


# --- what is shown -------------------------------------------------------------------------


async def test_a_report_is_shown_with_its_thresholds_and_alert(daemon: Client, it: Bell) -> None:
    ops = acting(daemon, "ops")
    report = {"provider": "openai", "model": "gpt-5", "tokensUsed": 99_999, "tokenLimit": 100_000}
    assert (await ops.update(report | {"userId": "ada"})).status == 200

    [item] = await listed(ops)

    alert = item.pop("alert")
    times = {name: item.pop(name) for name in ("reportedAt", "updatedAt")}
    assert item == {
        "id": str(await it.value("select id from token_usage")),
        "userId": "ada",
        "quota": "reported",
        "provider": "openai",
        "model": "gpt-5",
        "periodStart": None,
        "periodEnd": None,
        "unit": "tokens",
        "tokensUsed": 99_999,
        "tokenLimit": 100_000,
        "percentage": 99.99,
        "thresholds": [75, 90, 100],
        "burnTokensPerSecond": None,
        "exhaustsAt": None,
    }
    assert alert == {
        "id": str(await it.value("select id from alerts")),
        "level": 90,
        "startedAt": alert["startedAt"],
        "acknowledgedAt": None,
        "acknowledgedBy": None,
    }
    assert all(text.endswith("Z") for text in (*times.values(), alert["startedAt"]))


async def test_what_is_not_known_is_null(daemon: Client, it: Bell) -> None:
    await it.report(5, None)

    [item] = await listed(acting(daemon, "ops"))

    assert (item["userId"], item["tokenLimit"], item["percentage"]) == (None, None, None)
    assert item["alert"] is None


async def test_the_thresholds_are_those_that_count(daemon: Client, it: Bell) -> None:
    await it.report(1, user="ada")
    await it.report(1, user="bob")
    await it.threshold(50, user="ada")
    await it.threshold(60, provider="openai", user="ada")

    shown = {i["userId"]: i["thresholds"] for i in await listed(acting(daemon, "ops"))}
    assert shown == {"ada": [60], "bob": [75, 90, 100]}
    [own] = await listed(acting(daemon, "ada"))
    assert own["thresholds"] == [60]


async def test_the_highest_percentage_comes_first_and_the_unknown_last(
    daemon: Client, it: Bell
) -> None:
    for used, limit in ((5, 10), (1, None), (0, 10), (99, 100), (300, 100)):
        await it.report(used, limit, model=f"{used} of {limit}")

    shown = [item["percentage"] for item in await listed(acting(daemon, "reader"))]

    assert shown == [300, 99, 50, 0, None]


# --- filters -------------------------------------------------------------------------------


async def test_filters_are_shell_patterns(daemon: Client, it: Bell) -> None:
    ops = acting(daemon, "ops")
    await it.report(1, provider="openai", model="gpt-5", user="ada")
    await it.report(2, provider="openai", model="gpt-5-mini", user="bob")
    await it.report(3, provider="anthropic", model="opus", user="")

    assert await models(ops, model="gpt-*") == {"gpt-5", "gpt-5-mini"}
    assert await models(ops, model="gpt-?") == {"gpt-5"}
    assert await models(ops, model="gpt-%") == set()
    assert await models(ops, model="gpt.5") == set()
    assert await models(ops, provider="[!o]*") == {"opus"}
    assert await models(ops, userId="") == {"opus"}
    assert await models(ops, userId="?*") == {"gpt-5", "gpt-5-mini"}
    assert await models(ops, userId="ada", model="opus") == set()
    assert await models(ops, quota="reported") == {"gpt-5", "gpt-5-mini", "opus"}
    assert await models(ops, quota="report") == set()
    several = await ops.get(PATH, params=[("model", "opus"), ("model", "*-mini")])
    assert {i["model"] for i in several.json["items"]} == {"gpt-5-mini", "opus"}


async def test_only_open_periods_are_shown_unless_asked_for(daemon: Client, it: Bell) -> None:
    now = await it.value("select now()")
    hour = await it.value("select interval '1 hour'")
    await it.report(1, model="endless")
    await it.report(1, model="open", period_end=now + hour)
    await it.report(1, model="over", period_end=now - hour)
    await it.report(1, model="ahead", period_end=now + 2 * hour)
    await it.execute("update token_usage set period_start = $1 where model = 'ahead'", now + hour)
    reader = acting(daemon, "reader")

    assert await models(reader) == {"endless", "open"}
    assert await models(reader, state="open") == {"endless", "open"}
    assert await models(reader, state="closed") == {"over"}
    assert await models(reader, state="all") == {"endless", "open", "over", "ahead"}
    shown = {i["model"]: i for i in await listed(reader, state="all")}
    assert datetime.fromisoformat(shown["over"]["periodEnd"]) == now - hour
    assert datetime.fromisoformat(shown["ahead"]["periodStart"]) == now + hour
    assert shown["endless"]["periodStart"] is None


async def test_what_has_changed_since_can_be_asked_for(daemon: Client, it: Bell) -> None:
    ops = acting(daemon, "ops")
    await ops.update({"provider": "p", "model": "a", "tokensUsed": 1, "tokenLimit": 9})
    [first] = await listed(ops)
    await ops.update({"provider": "p", "model": "b", "tokensUsed": 1, "tokenLimit": 9})

    assert await models(ops, updatedAfter=first["updatedAt"]) == {"b"}
    east = "2020-01-01T00:00:00 02:00"  # a plus sign that nobody encoded
    assert (await ops.get(f"{PATH}?updatedAfter={east}")).status == 200


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("limit=0", {"limit"}),
        ("limit=5001", {"limit"}),
        ("limit=ten", {"limit"}),
        ("state=ajar", {"state"}),
        ("updatedAfter=soon", {"updatedAfter"}),
        ("updatedAfter=0001-01-01T00:00:00%2B05:00", {"updatedAfter"}),
        ("cursor=x", {"cursor"}),
        ("cursor=W10=", {"cursor"}),
        ("cursor=bm9u", {"cursor"}),
        ("cursor=%C3%A4", {"cursor"}),
        ("provider=%00", {"provider"}),
        ("model=" + "x" * 201, {"model"}),
        ("&".join(["quota=x"] * 51), {"quota"}),
        ("limit=-1&state=&cursor=7&userId=%00", {"limit", "state", "cursor", "userId"}),
    ],
)
async def test_every_wrong_parameter_is_named(
    guarded: Client, query: str, fields: set[str]
) -> None:
    reply = await acting(guarded, "ops").get(f"{PATH}?{query}")

    assert {name for name, _ in reply.fields()} == fields


# --- who may -------------------------------------------------------------------------------


async def test_a_user_sees_the_own_states_only(daemon: Client, it: Bell) -> None:
    for user in ("ada", "bob", ""):
        await it.report(95, user=user, model=f"of {user}")
    ada = acting(daemon, "ada")

    assert await models(ada) == {"of ada"}
    assert await models(ada, userId="*") == {"of ada"}
    assert await models(ada, state="all", limit=5000) == {"of ada"}
    for other in ("bob", "", "b*"):
        (await ada.get(PATH, params={"userId": other})).problem(403)
    assert await models(acting(daemon, "reader")) == {"of ada", "of bob", "of "}


async def test_a_cursor_of_somebody_else_leads_to_nothing_of_theirs(
    daemon: Client, it: Bell
) -> None:
    for n in range(4):
        await it.report(50 + n, user="bob", model=f"b{n}")
        await it.report(n, user="ada", model=f"a{n}")
    cursor = (await acting(daemon, "ops").get(PATH, params={"limit": 1})).json["nextCursor"]

    shown = await models(acting(daemon, "ada"), cursor=cursor)

    assert shown == {"a0", "a1", "a2", "a3"}


# --- parts and tags ------------------------------------------------------------------------


async def test_the_list_comes_in_parts(daemon: Client, it: Bell) -> None:
    for n in range(7):
        await it.report(n, model=f"m{n}")
    ops = acting(daemon, "ops")
    found, query = [], {"limit": "3"}
    while True:
        part = (await ops.get(PATH, params=query)).json
        found.append([item["model"] for item in part["items"]])
        if part["nextCursor"] is None:
            break
        query["cursor"] = part["nextCursor"]

    assert found == [["m6", "m5", "m4"], ["m3", "m2", "m1"], ["m0"]]


async def test_who_has_the_list_already_is_told_so(daemon: Client, it: Bell) -> None:
    for n in range(3):
        await it.report(n, model=f"m{n}")
    ops = acting(daemon, "ops")
    for query in ({}, {"limit": "2"}):
        first = await ops.get(PATH, params=query)
        tag = first.headers["ETag"]
        for value in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
            again = await ops.get(PATH, params=query, headers={"If-None-Match": value})
            assert (again.status, again.body) == (304, b"")
            assert again.headers["ETag"] == tag
        other = await ops.get(PATH, params=query, headers={"If-None-Match": '"x"'})
        assert other.status == 200
        await it.report(50, model="m0")
        changed = await ops.get(PATH, params=query, headers={"If-None-Match": tag})
        assert changed.status == 200
        assert changed.headers["ETag"] != tag
        await it.report(0, model="m0")


# --- removing ------------------------------------------------------------------------------


async def test_a_removed_state_leaves_the_list_and_the_metrics(daemon: Client, it: Bell) -> None:
    ops = acting(daemon, "ops")
    await ops.update({"provider": "p", "model": "gone", "tokensUsed": 95, "tokenLimit": 100})
    await ops.update({"provider": "p", "model": "stays", "tokensUsed": 95, "tokenLimit": 100})
    shown = {i["model"]: i for i in await listed(ops)}
    name = "quotabell_quota_used_tokens"
    assert await ops.metric(name, model="gone") == 95

    reply = await ops.call("DELETE", f"{PATH}/{shown['gone']['id']}")

    assert (reply.status, reply.body) == (204, b"")
    assert await ops.metric(name, model="gone") is None
    assert await ops.metric(name, model="stays") == 95
    assert await models(ops) == {"stays"}
    reasons = "select reason from alerts where model = 'gone'"
    assert await it.value(reasons) == "usage removed"
    (await ops.call("DELETE", f"{PATH}/{shown['gone']['id']}")).problem(404)
    (await ops.call("DELETE", f"{PATH}/{uuid4()}")).problem(404)
    assert (await ops.call("DELETE", f"{PATH}/7")).fields() == {("id", None)}


async def test_a_report_after_the_removal_begins_anew(daemon: Client) -> None:
    ops = acting(daemon, "ops")
    report = {"provider": "p", "model": "m", "tokensUsed": 95, "tokenLimit": 100}
    await ops.update(report)
    [first] = await listed(ops)
    await ops.call("DELETE", f"{PATH}/{first['id']}")
    await ops.update(report)

    [second] = await listed(ops)

    assert second["id"] != first["id"]
    assert second["alert"]["id"] != first["alert"]["id"]

    async def counted() -> bool:
        return await ops.metric("quotabell_quota_used_tokens", model="m") == 95

    await eventually(counted)


async def test_only_admin_removes(daemon: Client, it: Bell) -> None:
    state = await it.report(1, user="ada")

    for name in ("ada", "bob", "reader"):
        (await acting(daemon, name).call("DELETE", f"{PATH}/{state}")).problem(403)

    assert await models(acting(daemon, "ops")) == {"gpt-5"}
