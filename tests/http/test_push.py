"""``/api/push`` over HTTP: who may subscribe, see, stop and send what."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.domain.test_endpoints import hostile
from tests.domain.test_push_keys import bad_keys
from tests.http.client import Client, Reply, serving
from tests.support.daemon import configure
from tests.support.outbox import Outbox, outbox
from tests.support.postgres import Database
from tests.support.push_browser import Browser
from tests.support.pushservice import PushService
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROLES: dict[str, dict[str, Any]] = {
    "admin": {"scopes": ["admin"]},
    "app": {"scopes": ["push", "read"]},
    "alice": {"scopes": ["push", "read"], "user": "alice"},
    "bob": {"scopes": ["push", "read"], "user": "bob"},
}
TOKENS = [{"name": role, "token": f"token-of-{role}-{role}"} | more for role, more in ROLES.items()]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def push() -> AsyncIterator[PushService]:
    async with PushService() as push:
        yield push


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(
    shared_database: Database, push: PushService, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    config = configure(
        tmp_path_factory.mktemp("push"),
        shared_database.dsn,
        auth={"tokens": TOKENS},
        push={
            "trusted_origins": [push.origin],
            "tests_per_minute": 10_000,
            "subscribes_per_minute": 10_000,
        },
        # These alerts have no usage behind them, and a round would end them and say so.
        alerts={"evaluate_every": "5m"},
    )
    async with serving(config) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def box(shared_database: Database) -> AsyncIterator[Outbox]:
    async with outbox(shared_database.dsn) as box:
        yield box
        await box.connection.execute(
            "delete from notification_history; delete from push_subscriptions"
        )


class People:
    """The daemon as each role calls it."""

    def __init__(self, daemon: Client) -> None:
        self.admin, self.app, self.alice, self.bob = (
            daemon.with_token(f"token-of-{role}-{role}") for role in ROLES
        )


@pytest.fixture
def people(daemon: Client, box: Outbox) -> People:
    return People(daemon)


async def subscribe(client: Client, subscription: Any, user: str | None = None) -> Reply:
    body = {"subscription": subscription} | ({"userId": user} if user else {})
    return await client.post("/api/push/subscribe", json=body)


async def subscribed(
    client: Client, push: PushService, user: str | None = None, **body: Any
) -> Browser:
    """A browser that has done all that the page does."""
    key = (await client.get("/api/push/vapid-public-key")).json["publicKey"]
    browser = push.subscribe(key)
    reply = await subscribe(client, browser.subscription, user)
    assert reply.json["active"], reply.json
    return browser


async def items(client: Client, what: str, **query: str) -> list[dict[str, Any]]:
    reply = await client.get(f"/api/push/{what}", params=query)
    assert reply.status == 200, reply.body
    found: list[dict[str, Any]] = reply.json["items"]
    return found


# --- subscribing ---------------------------------------------------------------------------


async def test_a_subscribed_browser_gets_the_test_message(people: People, push: PushService):
    browser = await subscribed(people.alice, push)

    reply = await people.alice.post("/api/push/test", json={})

    assert reply.status == 202
    await eventually(lambda: push.of(browser))
    [arrival] = push.of(browser)
    assert arrival.problems == []
    assert arrival.message["state"] == arrival.message["kind"] == "test"
    assert arrival.message["title"] == "Quotabell"

    async def told() -> Any:
        [entry] = await items(people.alice, "history")
        return entry["status"] == "sent" and entry

    entry = await eventually(told)
    assert entry["id"] == reply.json["notificationId"]
    assert (entry["kind"], entry["userId"], entry["error"]) == ("test", "alice", None)
    [delivery] = entry["deliveries"]
    assert (delivery["channel"], delivery["status"], delivery["httpStatus"]) == (
        *("webpush", "sent", 201),
    )
    [attempt] = delivery["attempts"]
    assert (attempt["n"], attempt["outcome"], attempt["httpStatus"]) == (1, "sent", 201)
    assert attempt["startedAt"] <= attempt["endedAt"]


async def test_the_original_smoke_test_is_kept_and_never_contacted(people: People, box: Outbox):
    body = {"userId": "test-user", "subscription": {"endpoint": "test"}}
    reply = await people.admin.post("/api/push/subscribe", json=body)

    assert reply.status == 200
    assert reply.json | {"id": ""} == {
        "success": True,
        "id": "",
        "userId": "test-user",
        "active": False,
        "reason": "the endpoint is not an https URL",
    }
    await people.admin.post("/api/push/test", json={"userId": "test-user"})
    await eventually(box.closed)
    assert await box.value("select error from notification_history") == "nobody to tell"
    assert await box.value("select count(*) from deliveries") == 0


@pytest.mark.parametrize("endpoint", [e for e in hostile() if e])
async def test_a_hostile_endpoint_is_stored_inactive(endpoint: str, people: People, box: Outbox):
    keys = Browser(endpoint, "t", None).subscription["keys"]

    reply = await subscribe(people.alice, {"endpoint": endpoint, "keys": keys})

    assert reply.status == 200
    assert reply.json["active"] is False
    assert reply.json["reason"]
    assert await box.value("select count(*) from push_subscriptions where is_active") == 0
    [shown] = await items(people.alice, "subscriptions")
    assert shown["isActive"] is False
    assert "@" not in (shown["origin"] or "")


async def test_bad_keys_are_stored_inactive_and_without_them(
    people: People, push: PushService, box: Outbox
):
    for p256dh, auth in bad_keys():
        endpoint = push.subscribe().endpoint
        reply = await subscribe(
            people.alice, {"endpoint": endpoint, "keys": {"p256dh": p256dh, "auth": auth}}
        )
        assert (reply.status, reply.json["active"]) == (200, False), (p256dh, auth)
        assert "keys" in reply.json["reason"]

    assert await box.value("select count(*) from push_subscriptions where is_active") == 0
    assert (
        await box.value("select count(*) from push_subscriptions where subscription ? 'keys'") == 0
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "subscription"),
        ({"subscription": None}, "subscription"),
        ({"subscription": "https://x/"}, "subscription"),
        ({"subscription": []}, "subscription"),
        ({"subscription": {}}, "subscription.endpoint"),
        ({"subscription": {"endpoint": ""}}, "subscription.endpoint"),
        ({"subscription": {"endpoint": 5}}, "subscription.endpoint"),
        ({"subscription": {"endpoint": None, "keys": {}}}, "subscription.endpoint"),
        ({"subscription": {"endpoint": "x"}, "userId": "a\0b"}, "userId"),
        ({"subscription": {"endpoint": "x"}, "userId": "a" * 201}, "userId"),
        ({"subscription": {"endpoint": "x"}, "userId": 5}, "userId"),
        ({"subscription": {"endpoint": "x"}, "applicationServerKey": 5}, "applicationServerKey"),
    ],
)
async def test_what_is_no_subscription_is_refused_by_field(body: Any, field: str, people: People):
    reply = await people.admin.post("/api/push/subscribe", json=body)

    assert reply.fields() == {(field, None)}


@pytest.mark.parametrize(
    "text",
    ['"\\ud800"', '"\\u0000"', '"' + "x" * 5000 + '"', '"\\u202e"'],
    ids=["surrogate", "NUL", "long", "bidi"],
)
@pytest.mark.parametrize(
    "body",
    [
        '{"subscription": {"endpoint": TEXT}}',
        '{"subscription": {"endpoint": "https://x/", "keys": {"auth": TEXT, "p256dh": TEXT}}}',
        '{"subscription": {"endpoint": "https://x/"}, "applicationServerKey": TEXT}',
        '{"endpoint": TEXT}',
        '{"endpoint": "x", "subscription": {"keys": {"auth": TEXT}}}',
        '{"userId": TEXT}',
    ],
)
async def test_odd_text_is_no_error_of_the_daemon(body: str, text: str, people: People):
    for route in ("subscribe", "unsubscribe", "test"):
        reply = await people.alice.post(
            f"/api/push/{route}",
            data=body.replace("TEXT", text),
            headers={"Content-Type": "application/json"},
        )
        assert reply.status in {200, 202, 400, 403, 404, 422}, (route, reply.body)


async def test_a_browser_may_be_handed_to_another_user(
    people: People, push: PushService, box: Outbox
):
    browser = await subscribed(people.alice, push)

    reply = await subscribe(people.bob, browser.subscription)

    assert (reply.status, reply.json["userId"]) == (200, "bob")
    assert await items(people.alice, "subscriptions") == []
    assert len(await items(people.bob, "subscriptions")) == 1


async def test_nobody_takes_a_subscription_without_its_secret(
    people: People, push: PushService, box: Outbox
):
    browser = await subscribed(people.alice, push)
    other = Browser(browser.endpoint, browser.token, None).subscription

    for subscription in (
        other,
        {"endpoint": browser.endpoint},
        {"endpoint": browser.endpoint, "keys": {}},
    ):
        (await subscribe(people.bob, subscription)).problem(409)
        (await subscribe(people.admin, subscription)).problem(409)

    [shown] = await items(people.alice, "subscriptions")
    assert shown["isActive"]
    assert (
        await box.value("select subscription #>> '{keys,auth}' from push_subscriptions")
        == (browser.subscription["keys"]["auth"])
    )


async def test_an_endpoint_stored_without_keys_may_still_be_subscribed(
    people: People, push: PushService
):
    browser = push.subscribe()
    reply = await subscribe(people.bob, {"endpoint": browser.endpoint})
    assert reply.json["active"] is False

    reply = await subscribe(people.alice, browser.subscription)

    assert (reply.json["active"], reply.json["userId"]) == (True, "alice")


async def test_a_subscription_with_a_foreign_key_is_inactive(people: People, push: PushService):
    own = (await people.alice.get("/api/push/vapid-public-key")).json["publicKey"]
    for key, active in ((own, True), (own + "=", True), ("B" + "A" * 86, False), ("x", False)):
        reply = await people.alice.post(
            "/api/push/subscribe",
            json={"subscription": push.subscribe().subscription, "applicationServerKey": key},
        )
        assert (reply.status, reply.json["active"]) == (200, active), key


async def test_a_subscription_ended_by_the_service_can_be_renewed(
    people: People, push: PushService
):
    browser = await subscribed(people.alice, push)
    browser.gone = True
    await people.alice.post("/api/push/test", json={})

    async def ended() -> Any:
        [shown] = await items(people.alice, "subscriptions")
        return not shown["isActive"] and shown["reason"]

    assert await eventually(ended) == "gone"
    browser.gone = False
    assert (await subscribe(people.alice, browser.subscription)).json["active"]


# --- unsubscribing -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "form", "status"),
    [
        ("alice", "endpoint", 200),
        ("alice", "subscription", 200),
        ("admin", "endpoint", 200),
        ("bob", "subscription", 200),  # whoever has the secret holds the browser
        ("app", "subscription", 200),
        ("bob", "endpoint", 404),
        ("app", "endpoint", 404),
        ("bob", "wrong", 404),
        ("app", "wrong", 404),
    ],
)
async def test_only_owner_admin_and_browser_end_a_subscription(
    who: str, form: str, status: int, people: People, push: PushService
):
    browser = await subscribed(people.alice, push)
    wrong = Browser(browser.endpoint, "t", None).subscription
    body = {
        "endpoint": {"endpoint": browser.endpoint},
        "subscription": {"subscription": browser.subscription},
        "wrong": {"subscription": wrong},
    }[form]

    reply = await getattr(people, who).post("/api/push/unsubscribe", json=body)

    assert reply.status == status
    [shown] = await items(people.alice, "subscriptions")
    assert shown["isActive"] == (status != 200)
    await people.alice.post("/api/push/test", json={})


async def test_an_ended_subscription_is_not_contacted(
    people: People, push: PushService, box: Outbox
):
    browser = await subscribed(people.alice, push)
    await people.alice.post("/api/push/unsubscribe", json={"endpoint": browser.endpoint})

    await people.alice.post("/api/push/test", json={})

    await eventually(box.closed)
    assert push.of(browser) == []


async def test_unsubscribing_names_what(people: People):
    for body in ({}, {"endpoint": ""}, {"subscription": {}}, {"subscription": {"keys": {}}}):
        reply = await people.alice.post("/api/push/unsubscribe", json=body)
        assert reply.fields() == {("endpoint", None)}


# --- who sees and does what ----------------------------------------------------------------


async def test_lists_tell_no_secret(people: People, push: PushService, box: Outbox):
    browser = await subscribed(people.alice, push)
    await people.alice.post("/api/push/test", json={})
    await eventually(box.closed)
    told = b""
    for path in ("subscriptions", "history", "vapid-public-key"):
        told += (await people.admin.get(f"/api/push/{path}")).body
    told += (await people.admin.get("/metrics")).body

    [shown] = await items(people.alice, "subscriptions")
    assert shown["origin"] == push.origin
    assert shown["lastSuccessAt"] is not None
    assert set(shown) == {
        *("id", "userId", "isActive", "reason", "vapidKeyId", "origin"),
        *("lastSuccessAt", "createdAt", "updatedAt"),
    }
    for secret in (browser.token, *browser.subscription["keys"].values()):
        assert secret.encode() not in told


async def test_users_see_their_own_alone(people: People, push: PushService, box: Outbox):
    await subscribed(people.alice, push)
    await subscribed(people.bob, push)
    await subscribed(people.admin, push)
    for user in ("alice", "bob", ""):
        await box.announce(user)

    for what, everybody in (("subscriptions", 3), ("history", 3)):
        for who, client in (("alice", people.alice), ("bob", people.bob)):
            assert {item["userId"] for item in await items(client, what)} == {who}
            assert {item["userId"] for item in await items(client, what, userId=who)} == {who}
            for other in ("carol", "bob" if who == "alice" else "alice", ""):
                reply = await client.get(f"/api/push/{what}", params={"userId": other})
                reply.problem(403)
        assert len(await items(people.admin, what)) == everybody
        assert {i["userId"] for i in await items(people.admin, what, userId="bob")} == {"bob"}
        assert [i["userId"] for i in await items(people.admin, what, userId="")] == [None]


async def test_subscriptions_of_operators_are_the_admins(
    people: People, push: PushService, box: Outbox
):
    operator, alices = push.subscribe(), push.subscribe()
    for subscription, user in ((operator.subscription, None), (alices.subscription, "alice")):
        reply = await subscribe(people.admin, subscription, user)
        assert reply.json["active"]

    assert (await subscribe(people.app, push.subscribe().subscription)).status == 403
    assert (await subscribe(people.app, push.subscribe().subscription, "carol")).status == 200
    assert {i["userId"] for i in await items(people.app, "subscriptions")} == {"alice", "carol"}
    assert await items(people.app, "subscriptions", userId="") == []
    assert (await people.app.post("/api/push/test", json={})).status == 403
    assert (await people.admin.post("/api/push/test", json={})).status == 202
    await eventually(lambda: push.of(operator))
    assert push.of(alices) == []


async def test_users_act_for_nobody_else(people: People, push: PushService, box: Outbox):
    (await subscribe(people.alice, push.subscribe().subscription, "bob")).problem(403)
    (await people.alice.post("/api/push/test", json={"userId": "bob"})).problem(403)
    message = await box.announce("bob")
    (await people.alice.post(f"/api/push/history/{message}/resend")).problem(404)
    (await people.app.post(f"/api/push/history/{message}/resend")).problem(403)
    assert (await people.bob.post(f"/api/push/history/{message}/resend")).status == 202


async def test_a_message_can_be_sent_again(people: People, push: PushService, box: Outbox):
    own, operator = await subscribed(people.alice, push), await subscribed(people.admin, push)
    alert = await box.alert("alice")
    message = await box.announce("alice", alert=alert, seq=1, title="once more")
    await eventually(lambda: len(push.of(own)) == len(push.of(operator)) == 1)

    reply = await people.alice.post(f"/api/push/history/{message}/resend")
    await eventually(lambda: len(push.of(own)) == 2)
    assert len(push.of(operator)) == 1  # a user wakes nobody else
    await people.admin.post(f"/api/push/history/{message}/resend")
    await eventually(lambda: len(push.of(own)) == 3 and len(push.of(operator)) == 2)

    assert {arrival.message["title"] for arrival in push.of(own)} == {"once more"}
    entry = next(
        entry
        for entry in await items(people.alice, "history")
        if entry["id"] == reply.json["notificationId"]
    )
    assert entry["data"]["resendOf"] == str(message)


async def test_sending_again_needs_something_to_send(people: People):
    unknown = "00000000-0000-0000-0000-000000000001"
    (await people.admin.post(f"/api/push/history/{unknown}/resend")).problem(404)
    reply = await people.admin.post("/api/push/history/five/resend")
    assert reply.fields() == {("id", None)}


# --- lists ---------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["subscriptions", "history"])
async def test_lists_are_read_in_parts(what: str, people: People, push: PushService, box: Outbox):
    for n in range(23):
        await box.subscribe("alice", {"endpoint": f"https://x.example/{n}"}, active=False)
        await box.announce("alice", title=f"{n}")
    # Rows of one transaction have the same time.
    await box.connection.execute("update push_subscriptions set created_at = '2020-01-01'")
    await box.connection.execute("update notification_history set created_at = '2020-01-01'")
    seen, query = [], {"limit": "5"}
    for _ in range(5):
        reply = await people.alice.get(f"/api/push/{what}", params=query)
        seen += [item["id"] for item in reply.json["items"]]
        query["cursor"] = reply.json["nextCursor"]

    assert query["cursor"] is None
    assert len(seen) == len(set(seen)) == 23
    assert seen == [item["id"] for item in await items(people.alice, what, limit="500")]


@pytest.mark.parametrize("what", ["subscriptions", "history"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limit", "0"),
        ("limit", "501"),
        ("limit", "-1"),
        ("limit", "1e2"),
        ("limit", "0000000000501"),
        ("limit", "٣"),
        ("cursor", "x"),
        ("cursor", "W10="),
        ("cursor", "WyJ4IiwgIngiXQ=="),
        ("userId", "\0"),
        ("userId", "a" * 201),
    ],
)
async def test_a_wrong_query_is_refused_by_field(what: str, field: str, value: str, people: People):
    reply = await people.admin.get(f"/api/push/{what}", params={field: value})

    assert reply.fields() == {(field, None)}


async def test_the_history_is_filtered_by_status(people: People, box: Outbox):
    await box.announce("alice")
    await eventually(box.closed)

    assert len(await items(people.alice, "history", status="suppressed")) == 1
    assert await items(people.alice, "history", status="sent") == []
    reply = await people.alice.get("/api/push/history", params={"status": "leased"})
    assert reply.fields() == {("status", None)}


async def test_a_secret_that_is_not_ascii_is_compared_as_it_is(people: People, box: Outbox):
    await box.subscribe("alice", {"endpoint": "é", "keys": {"auth": "é=="}})
    body = {"subscription": {"endpoint": "é", "keys": {"auth": secrets.token_hex(8)}}}
    (await people.bob.post("/api/push/unsubscribe", json=body)).problem(404)
    body["subscription"]["keys"] = {"auth": "é"}
    assert (await people.bob.post("/api/push/unsubscribe", json=body)).status == 200


# --- limits --------------------------------------------------------------------------------


async def test_a_flood_of_test_messages_is_refused_and_says_until_when(
    shared_database: Database, box: Outbox, tmp_path: Path
):
    config = configure(tmp_path, shared_database.dsn, auth={"tokens": TOKENS})
    message = await box.announce("bob")
    async with serving(config) as daemon:
        people = People(daemon)
        flood = [await people.bob.post("/api/push/test", json={}) for _ in range(9)]
        again = f"/api/push/history/{message}/resend"
        flood += [await people.bob.post(again) for _ in range(3)]
        others = await people.alice.post("/api/push/test", json={})

    assert [reply.status for reply in flood] == [202] * 10 + [429] * 2
    assert flood[-1].problem(429)["detail"] == "at most 10 of these requests a minute"
    assert 1 <= int(flood[-1].headers["Retry-After"]) <= 6
    assert others.status == 202


async def test_the_browser_of_least_use_gives_way_to_the_fifty_first(
    people: People, push: PushService, box: Outbox
):
    await box.connection.execute(
        """insert into push_subscriptions (user_id, subscription, created_at, last_success_at)
        select 'alice', jsonb_build_object('endpoint', 'https://push.example/' || n),
            now() - interval '1 day' - n * interval '1 hour',
            case when n = 50 then now() - interval '2 hours' end
        from generate_series(1, 50) n"""
    )

    await subscribed(people.alice, push)

    ended = await box.rows(
        "select subscription ->> 'endpoint' as endpoint, reason from push_subscriptions "
        "where user_id = 'alice' and not is_active"
    )
    # The fiftieth is the oldest, but was reached two hours ago.
    assert ended == [
        {
            "endpoint": "https://push.example/49",
            "reason": "more than 50 browsers of this user are subscribed",
        }
    ]
