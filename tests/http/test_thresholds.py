"""``/api/token-monitor/thresholds``: adding, seeing, changing and removing, by those who may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.http.client import Client, Reply, serving
from tests.support.bell import Bell, bell
from tests.support.daemon import configure
from tests.support.postgres import Database
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/api/token-monitor/thresholds"
TOKENS = [
    {"name": "ops", "token": "o" * 20, "scopes": ["admin"]},
    {"name": "ada", "token": "a" * 20, "scopes": ["read", "push"], "user": "ada"},
    {"name": "bob", "token": "b" * 20, "scopes": ["read", "push"], "user": "bob"},
    {"name": "reader", "token": "r" * 20, "scopes": ["read"]},
    {"name": "pusher", "token": "p" * 20, "scopes": ["push"]},
    {"name": "apps", "token": "i" * 20, "scopes": ["ingest"]},
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(
    shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    folder = tmp_path_factory.mktemp("guarded")
    config = configure(folder, shared_database.dsn, auth={"tokens": TOKENS})
    async with serving(config) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def daemon(guarded: Client, it: Bell) -> Client:
    """With tokens, and without thresholds."""
    await it.execute("delete from token_thresholds")
    return guarded


@pytest_asyncio.fixture(loop_scope="module")
async def it(shared_database: Database) -> AsyncIterator[Bell]:
    async with bell(shared_database.dsn) as ready:
        yield ready


def acting(client: Client, name: str) -> Client:
    return client.with_token(next(str(t["token"]) for t in TOKENS if t["name"] == name))


async def add(client: Client, percentage: float = 80, **more: Any) -> Any:
    reply = await client.post(PATH, json={"thresholdPercentage": percentage, **more})
    assert reply.status == 201, reply.body
    return reply.json


async def listed(client: Client, **query: Any) -> list[Any]:
    reply = await client.get(PATH, params=query)
    assert reply.status == 200, reply.body
    return list(reply.json["items"])


# --- one after the other -------------------------------------------------------------------


async def test_a_threshold_lives_from_adding_to_removing(daemon: Client) -> None:
    ops = acting(daemon, "ops")

    made = await add(ops, 80.5, provider="openai", userId="ada")
    assert set(made) == {
        *("id", "provider", "userId", "thresholdPercentage", "isActive", "createdAt", "updatedAt")
    }
    assert (made["provider"], made["userId"]) == ("openai", "ada")
    assert (made["thresholdPercentage"], made["isActive"]) == (80.5, True)
    one = f"{PATH}/{made['id']}"
    assert (await ops.get(one)).json == made
    assert await listed(ops) == [made]

    changed = (await ops.call("PATCH", one, json={"isActive": False})).json
    assert changed == made | {"isActive": False, "updatedAt": changed["updatedAt"]}
    assert changed["updatedAt"] > made["updatedAt"]
    changed = (await ops.call("PATCH", one, json={"thresholdPercentage": 90})).json
    assert (changed["thresholdPercentage"], changed["isActive"]) == (90, False)
    assert (await ops.call("PATCH", one, json={})).json == changed

    removed = await ops.call("DELETE", one)
    assert (removed.status, removed.body) == (204, b"")
    assert await listed(ops) == []
    for method, body in (("GET", None), ("PATCH", {"isActive": True}), ("DELETE", None)):
        (await ops.call(method, one, json=body)).problem(404)


async def test_by_default_a_threshold_is_for_everybody(daemon: Client) -> None:
    made = await add(acting(daemon, "ops"))

    assert (made["provider"], made["userId"]) == ("*", None)


async def test_a_scope_has_a_percentage_only_once(daemon: Client) -> None:
    ops = acting(daemon, "ops")
    first, second = await add(ops, 80, isActive=False), await add(ops, 90)
    await add(ops, 80, provider="openai")
    await add(ops, 80, userId="ada")

    (await ops.post(PATH, json={"thresholdPercentage": 80})).problem(409)
    reply = await ops.call("PATCH", f"{PATH}/{second['id']}", json={"thresholdPercentage": 80})
    reply.problem(409)

    shown = {t["id"]: t for t in await listed(ops)}
    assert (shown[first["id"]], shown[second["id"]]) == (first, second)


# --- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "thresholdPercentage"),
        ({"thresholdPercentage": 0}, "thresholdPercentage"),
        ({"thresholdPercentage": -1}, "thresholdPercentage"),
        ({"thresholdPercentage": 1000.001}, "thresholdPercentage"),
        ({"thresholdPercentage": 10**400}, "thresholdPercentage"),
        ({"thresholdPercentage": "80"}, "thresholdPercentage"),
        ({"thresholdPercentage": True}, "thresholdPercentage"),
        ({"thresholdPercentage": None}, "thresholdPercentage"),
        ({"thresholdPercentage": [80]}, "thresholdPercentage"),
        ({"thresholdPercentage": 80, "isActive": "yes"}, "isActive"),
        ({"thresholdPercentage": 80, "isActive": 1}, "isActive"),
        ({"thresholdPercentage": 80, "provider": ""}, "provider"),
        ({"thresholdPercentage": 80, "provider": 5}, "provider"),
        ({"thresholdPercentage": 80, "provider": "x" * 201}, "provider"),
        ({"thresholdPercentage": 80, "userId": "a\0"}, "userId"),
        ({"thresholdPercentage": 80, "userId": "\ud800"}, "userId"),
        ({"thresholdPercentage": 80, "user": "ada"}, "user"),
        ([{"thresholdPercentage": 80}], ""),
    ],
)
async def test_a_wrong_value_is_named(client: Client, body: Any, field: str) -> None:
    reply = await client.post(PATH, json=body)

    assert {name for name, _ in reply.fields()} == {field}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "1e-400"])
async def test_what_is_no_number_is_refused(client: Client, number: str) -> None:
    reply = await client.post(
        PATH,
        data=f'{{"thresholdPercentage": {number}}}',
        headers={"Content-Type": "application/json"},
    )

    assert reply.fields() == {("thresholdPercentage", None)}


@pytest.mark.parametrize("percentage", [1000, 0.001, 33.333333333333336])
async def test_any_percentage_up_to_1000_is_kept_exactly(client: Client, percentage: float) -> None:
    assert (await add(client, percentage))["thresholdPercentage"] == percentage


@pytest.mark.parametrize("body", [{"thresholdPercentage": 0}, {"isActive": "no"}, {"userId": "b"}])
async def test_a_change_is_checked_as_well(client: Client, body: dict[str, Any]) -> None:
    made = await add(client, 12.5, userId=str(uuid4()))

    reply = await client.call("PATCH", f"{PATH}/{made['id']}", json=body)

    assert {name for name, _ in reply.fields()} == set(body)
    assert (await client.get(f"{PATH}/{made['id']}")).json == made


async def test_an_id_must_be_one(client: Client) -> None:
    for method in ("GET", "PATCH", "DELETE"):
        reply = await client.call(method, f"{PATH}/7", json={"isActive": True})
        assert reply.fields() == {("id", None)}
        (await client.call(method, f"{PATH}/{uuid4()}", json={"isActive": True})).problem(404)


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=501", "limit=x", "cursor=x", "provider=%00", "provider=%ED%A0%80"]
)
async def test_a_wrong_query_is_refused_or_finds_nothing(client: Client, query: str) -> None:
    reply = await client.get(f"{PATH}?{query}")

    assert reply.status == 422 or reply.json["items"] == []


# --- lists ---------------------------------------------------------------------------------


async def test_a_list_comes_in_parts_newest_first(daemon: Client) -> None:
    ops = acting(daemon, "ops")
    made = [(await add(ops, percentage))["id"] for percentage in range(1, 8)]
    found: list[str] = []
    query: dict[str, str] = {"limit": "3"}
    while True:
        reply = (await ops.get(PATH, params=query)).json
        found += [item["id"] for item in reply["items"]]
        if reply["nextCursor"] is None:
            break
        assert len(reply["items"]) == 3
        await add(ops, 100 + len(found))  # newer than the cursor: not in the parts that follow
        query["cursor"] = reply["nextCursor"]

    assert found == made[::-1]


async def test_a_list_is_narrowed_to_a_provider_and_a_user(daemon: Client) -> None:
    ops = acting(daemon, "ops")
    names = {}
    for provider in ("*", "openai"):
        for user in ("", "ada", "bob"):
            made = await add(ops, provider=provider, userId=user)
            names[made["id"]] = (provider, user)

    async def found(**query: str) -> set[tuple[str, str]]:
        return {names[item["id"]] for item in await listed(ops, **query)}

    assert len(await found()) == 6
    assert await found(provider="openai") == {("openai", u) for u in ("", "ada", "bob")}
    assert await found(userId="ada", provider="*") == {("*", ""), ("*", "ada")}
    assert await found(userId="eve") == {("*", ""), ("openai", "")}
    assert len(await found(userId="")) == 6


# --- who may -------------------------------------------------------------------------------


async def _everything(client: Client, key: str) -> dict[str, Reply]:
    return {
        "list": await client.get(PATH),
        "one": await client.get(f"{PATH}/{key}"),
        "add": await client.post(PATH, json={"thresholdPercentage": 1}),
        "change": await client.call("PATCH", f"{PATH}/{key}", json={"isActive": True}),
        "remove": await client.call("DELETE", f"{PATH}/{key}"),
    }


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("ops", {"list", "one", "add", "change", "remove"}),
        ("ada", {"list", "one", "add", "change", "remove"}),
        ("bob", {"list", "add"}),
        ("reader", {"list", "one"}),
        ("pusher", set()),
        ("apps", set()),
    ],
)
async def test_who_may_do_what_to_the_threshold_of_a_user(
    daemon: Client, name: str, may: set[str]
) -> None:
    made = await add(acting(daemon, "ops"), userId="ada")

    replies = await _everything(acting(daemon, name), made["id"])

    assert {what for what, reply in replies.items() if reply.status < 300} == may
    refused = {what: r.status for what, r in replies.items() if what not in may}
    assert set(refused.values()) <= ({404} if name == "bob" else {403})


async def test_a_user_sees_everybodys_thresholds_and_cannot_touch_them(daemon: Client) -> None:
    made = await add(acting(daemon, "ops"))
    ada = acting(daemon, "ada")
    own = await add(ada, 50)
    await add(acting(daemon, "bob"), 60)

    assert own["userId"] == "ada"
    assert await listed(ada) == [own, made]
    assert await listed(ada, userId="ada") == [own, made]
    (await ada.get(PATH, params={"userId": "bob"})).problem(403)
    (await ada.post(PATH, json={"thresholdPercentage": 5, "userId": "bob"})).problem(403)
    for method in ("PATCH", "DELETE"):
        reply = await ada.call(method, f"{PATH}/{made['id']}", json={"isActive": False})
        assert "admin" in reply.problem(403)["detail"]
    assert await listed(ada) == [own, made]


async def test_nobody_without_admin_adds_for_others(daemon: Client) -> None:
    for body in ({"userId": "ada"}, {"userId": ""}, {}):
        reply = await acting(daemon, "pusher").post(PATH, json={"thresholdPercentage": 5} | body)
        reply.problem(403)


async def test_without_a_token_nothing_is_told(daemon: Client) -> None:
    for reply in (await _everything(daemon, str(uuid4()))).values():
        reply.problem(401)


# --- what for ------------------------------------------------------------------------------


async def test_a_users_own_threshold_rings_for_the_user_only(daemon: Client, it: Bell) -> None:
    ada, bob = await it.report(60, user="ada"), await it.report(60, user="bob")

    await add(acting(daemon, "ada"), 55)

    await eventually(lambda: it.level(ada))
    assert await it.level(ada) == 55
    assert await it.level(bob) is None


async def test_the_description_tells_what_is_answered(client: Client) -> None:
    document = (await client.get("/openapi.json")).json
    described = document["components"]["schemas"]["Threshold"]["properties"]

    assert set(await add(client, 77, userId=str(uuid4()))) == set(described)


async def test_a_scope_has_at_most_twenty_thresholds(guarded: Client):
    """One per cent apart, and also when two come at once."""
    ada = acting(guarded, "ada")
    replies = await asyncio.gather(
        *(
            ada.post(PATH, json={"provider": "crowded", "thresholdPercentage": n})
            for n in range(1, 26)
        )
    )

    assert sorted(r.status for r in replies) == [201] * 20 + [409] * 5
    assert "20 thresholds" in next(r for r in replies if r.status == 409).json["detail"]
    another = {"provider": "roomy", "thresholdPercentage": 50}
    assert (await ada.post(PATH, json=another)).status == 201
