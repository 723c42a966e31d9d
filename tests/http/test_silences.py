"""``/api/token-monitor/silences``: made by those who may, and what they do to the bell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.http.client import Client, serving, snapshot
from tests.http.people import TOKENS, acting
from tests.support.bell import Bell
from tests.support.daemon import configure
from tests.support.outbox import Outbox, outbox
from tests.support.push_browser import Browser
from tests.support.pushservice import PushService
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/api/token-monitor/silences"


def ahead(**time: float) -> str:
    return (datetime.now(UTC) + timedelta(**time)).isoformat()


def silence(**more: Any) -> dict[str, Any]:
    return {"matchers": {"model": "gpt-*"}, "endsAt": ahead(hours=1), "reason": "upgrade"} | more


async def add(client: Client, **more: Any) -> Any:
    reply = await client.post(PATH, json=silence(**more))
    assert reply.status == 201, reply.body
    return reply.json


async def listed(client: Client, **query: Any) -> list[Any]:
    reply = await client.get(PATH, params=query)
    assert reply.status == 200, reply.body
    return list(reply.json["items"])


# --- one after the other -------------------------------------------------------------------


async def test_a_silence_lives_from_adding_to_removing(daemon: Client, it: Bell) -> None:
    await it.execute("delete from silences")
    ops = acting(daemon, "ops")

    made = await add(ops, matchers={"model": "gpt-*", "userId": "a*"})
    assert {key: made[key] for key in ("userId", "matchers", "author", "reason")} == {
        "userId": None,
        "matchers": {"model": "gpt-*", "userId": "a*"},
        "author": "ops",
        "reason": "upgrade",
    }
    assert made["startsAt"].endswith("Z")
    assert made["startsAt"] < made["endsAt"]
    one = f"{PATH}/{made['id']}"
    assert (await ops.get(one)).json == made
    assert await listed(ops) == [made]

    end = ahead(hours=2)
    changed = (await ops.call("PATCH", one, json={"endsAt": end, "reason": "longer"})).json
    assert datetime.fromisoformat(changed["endsAt"]) == datetime.fromisoformat(end)
    assert (changed["reason"], changed["matchers"]) == ("longer", made["matchers"])
    changed = (await ops.call("PATCH", one, json={"matchers": {"kind": "*"}})).json
    assert (changed["matchers"], changed["reason"]) == ({"kind": "*"}, "longer")

    assert (await ops.call("DELETE", one)).status == 204
    for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
        (await ops.call(method, one, json=body)).problem(404)


async def test_silences_are_listed_by_their_time(daemon: Client, it: Bell) -> None:
    await it.execute("delete from silences")
    ops = acting(daemon, "ops")
    now = await add(ops)
    later = await add(ops, startsAt=ahead(minutes=5))
    over = await add(ops)
    await it.execute(
        "update silences set starts_at = now() - interval '2 h', ends_at = now() where id = $1",
        over["id"],
    )

    def ids(found: list[Any]) -> set[str]:
        return {item["id"] for item in found}

    assert ids(await listed(ops, state="active")) == {now["id"]}
    assert ids(await listed(ops, state="pending")) == {later["id"]}
    assert ids(await listed(ops, state="expired")) == {over["id"]}
    assert [s["id"] for s in await listed(ops)] == [over["id"], later["id"], now["id"]]
    first = (await ops.get(PATH, params={"limit": 2})).json
    assert len(first["items"]) == 2
    assert ids(await listed(ops, cursor=first["nextCursor"])) == {now["id"]}


@pytest.mark.parametrize(
    ("more", "fields"),
    [
        ({"endsAt": None}, {"endsAt"}),
        ({"endsAt": "2020-01-01T00:00:00Z"}, {"endsAt"}),
        ({"endsAt": "2050-01-01T00:00:00"}, {"endsAt"}),
        ({"endsAt": "9999-12-31T23:59:59-12:00"}, {"endsAt"}),
        ({"startsAt": "2050-01-01T00:00:00Z"}, {"endsAt"}),
        ({"reason": ""}, {"reason"}),
        ({"reason": "a\0"}, {"reason"}),
        ({"matchers": None}, {"matchers"}),
        ({"matchers": {}}, {"matchers"}),
        ({"matchers": {"modle": "x"}}, {"matchers.modle"}),
        ({"matchers": {"model": "x" * 201, "kind": 7}}, {"matchers.model", "matchers.kind"}),
        ({"userId": "ada"}, {"userId"}),
    ],
)
async def test_a_wrong_value_is_named(
    guarded: Client, more: dict[str, Any], fields: set[str]
) -> None:
    reply = await acting(guarded, "ops").post(PATH, json=silence(**more))

    assert {name for name, _ in reply.fields()} == fields


async def test_a_silence_cannot_be_changed_to_end_before_it_starts(guarded: Client) -> None:
    ops = acting(guarded, "ops")
    made = await add(ops)

    for change in ({"startsAt": ahead(hours=3)}, {"endsAt": "2020-01-01T00:00:00Z"}):
        reply = await ops.call("PATCH", f"{PATH}/{made['id']}", json=change)
        assert reply.fields() == {("endsAt", None)}
    assert (await ops.call("PATCH", f"{PATH}/7", json={})).fields() == {("id", None)}
    assert (await ops.get(PATH, params={"state": "loud"})).fields() == {("state", None)}


# --- who may -------------------------------------------------------------------------------


async def test_a_user_has_silences_of_the_own_and_sees_no_others(daemon: Client, it: Bell) -> None:
    await it.execute("delete from silences")
    ops, ada, bob = (acting(daemon, name) for name in ("ops", "ada", "bob"))
    everybodys = await add(ops)
    own = await add(ada, matchers={})
    assert (own["userId"], own["author"]) == ("ada", "ada")

    assert await listed(ada) == [own]
    assert await listed(bob) == []
    for silence_of_others in (own, everybodys):
        one = f"{PATH}/{silence_of_others['id']}"
        (await bob.get(one)).problem(404)
        (await bob.call("PATCH", one, json={"reason": "mine"})).problem(404)
        (await bob.call("DELETE", one)).problem(404)
    (await ada.post(PATH, json=silence(matchers={"userId": "bob"}))).problem(403)
    (await ada.call("PATCH", f"{PATH}/{own['id']}", json={"matchers": {"userId": "b*"}})).problem(
        403
    )
    (await acting(daemon, "pusher").post(PATH, json=silence())).problem(403)
    (await acting(daemon, "reader").post(PATH, json=silence())).problem(403)
    assert {s["id"] for s in await listed(acting(daemon, "reader"))} == {
        own["id"],
        everybodys["id"],
    }
    assert (await ada.call("DELETE", f"{PATH}/{own['id']}")).status == 204
    (await ada.call("DELETE", f"{PATH}/{uuid4()}")).problem(404)


# --- what they do --------------------------------------------------------------------------


@pytest_asyncio.fixture(loop_scope="module")
async def push() -> AsyncIterator[PushService]:
    async with PushService() as push:
        yield push


@pytest_asyncio.fixture(loop_scope="module")
async def box(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox(dsn) as box:
        yield box


@pytest_asyncio.fixture(loop_scope="module")
async def client(dsn: str, push: PushService, tmp_path: Path) -> AsyncIterator[Client]:
    """A daemon of its own that pushes, and evaluates often."""
    config = configure(
        *(tmp_path, dsn),
        push={"trusted_origins": [push.origin]},
        alerts={"evaluate_every": "100ms"},
        auth={"tokens": TOKENS},
    )
    async with serving(config) as client:
        yield client


async def subscribe(client: Client, push: PushService) -> Browser:
    ada = acting(client, "ada")
    key = (await ada.get("/api/push/vapid-public-key")).json["publicKey"]
    browser = push.subscribe(key)
    body = {"userId": "ada", "subscription": browser.subscription, "applicationServerKey": key}
    assert (await ada.post("/api/push/subscribe", json=body)).json["active"]
    return browser


async def report(client: Client, percent: int, **more: Any) -> None:
    body = snapshot(model="gpt-5", tokensUsed=percent, tokenLimit=100, **more)
    assert (await acting(client, "ada").update(body)).status == 200


async def history(client: Client) -> list[tuple[str, str, str | None]]:
    """Of each message, oldest first: what it tells, what became of it, and why."""
    items = (await acting(client, "ada").get("/api/push/history")).json["items"]
    return [(i["transition"], i["status"], i["error"]) for i in reversed(items)]


async def test_what_is_silenced_is_recorded_and_told_when_that_ends(
    client: Client, push: PushService, box: Outbox
) -> None:
    browser = await subscribe(client, push)
    ops = acting(client, "ops")
    made = await add(ops)
    await report(client, 80)
    await report(client, 95)
    await eventually(box.closed)

    muted = ("firing", "suppressed", "silenced by ops: upgrade")
    assert await history(client) == [muted, muted]
    items = (await acting(client, "ada").get("/api/push/history")).json["items"]
    assert [[d["status"] for d in i["deliveries"]] for i in items] == [["suppressed"]] * 2
    alerts = (await ops.get("/api/token-monitor/alerts")).json["items"]
    assert [alert["level"] for alert in alerts] == [90]

    await ops.call("DELETE", f"{PATH}/{made['id']}")
    await push.wait(1)
    await eventually(box.closed)
    assert await history(client) == [muted, muted, ("firing", "sent", None)]
    await report(client, 1)
    await push.wait(2)
    await eventually(box.closed)
    told = [(a.message["state"], a.message["threshold"]) for a in push.of(browser)]
    assert told == [("firing", 90.0), ("resolved", 90.0)]
    assert await box.books() == []


async def test_a_silence_ends_by_itself_and_what_is_over_is_not_told(
    client: Client, push: PushService, box: Outbox
) -> None:
    await subscribe(client, push)
    made = await add(acting(client, "ops"))
    await report(client, 80)
    await report(client, 95, provider="goes on")
    await report(client, 1)
    await eventually(box.closed)
    await box.connection.execute(
        "update silences set ends_at = now() + interval '0.3 s' where id = $1", made["id"]
    )

    arrivals = await push.wait(1)
    await eventually(box.closed)

    assert arrivals[0].message["provider"] == "goes on"
    assert sorted(status for _, status, _ in await history(client)) == ["sent"] + 3 * ["suppressed"]
    await eventually(box.closed)
    assert len(push.arrivals) == 1


async def test_a_silence_of_others_or_of_something_else_keeps_nothing_back(
    client: Client, push: PushService, box: Outbox
) -> None:
    await subscribe(client, push)
    await add(acting(client, "bob"), matchers={})
    await add(acting(client, "ops"), matchers={"model": "gpt-5-*"})
    await add(acting(client, "ops"), startsAt=ahead(minutes=30))
    await add(acting(client, "ops"), matchers={"kind": "forecast"})
    await report(client, 80)

    await push.wait(1)
    await eventually(box.closed)
    assert await history(client) == [("firing", "sent", None)]


async def test_a_test_message_is_never_silenced(
    client: Client, push: PushService, box: Outbox
) -> None:
    await subscribe(client, push)
    await add(acting(client, "ada"), matchers={})
    await acting(client, "ada").post("/api/push/test", json={"userId": "ada"})

    await push.wait(1)
    await eventually(box.closed)


async def test_what_was_acknowledged_is_not_told_after_a_silence(
    client: Client, push: PushService, box: Outbox
) -> None:
    await subscribe(client, push)
    made = await add(acting(client, "ada"), matchers={})
    await report(client, 80)
    await report(client, 80, provider="other")
    await eventually(box.closed)
    [first, second] = (await acting(client, "ada").get("/api/token-monitor/alerts")).json["items"]
    await acting(client, "ada").post(f"/api/token-monitor/alerts/{first['id']}/ack")
    await acting(client, "ada").call("DELETE", f"{PATH}/{made['id']}")

    [arrival] = await push.wait(1)

    assert arrival.message["provider"] == second["provider"]
