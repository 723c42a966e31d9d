"""Ways in beside configured tokens: signed ones, pages of other origins; and too many bad ones."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import pytest_asyncio
from aiohttp.test_utils import make_mocked_request

from quotabell.config import Config
from quotabell.http.allowance import Crowd, TooMany, network
from quotabell.http.auth import Gate, Unauthorized
from quotabell.http.caller import Caller
from tests.http.client import STATUS, UPDATE, Client, serving, snapshot
from tests.http.people import TOKENS, acting
from tests.support.bell import Bell
from tests.support.daemon import configure
from tests.support.postgres import Database
from tests.support.tokens import SECRET, supabase

pytestmark = pytest.mark.asyncio(loop_scope="module")

APP = "https://app.example.com"
USAGE = "/api/token-monitor/usage"
OPERATORS = ("/metrics", "/-/config", "/openapi.json", "/-/healthy", "/")
OTHER = "another-secret-of-at-least-32-characters"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(
    shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    auth = {"tokens": TOKENS, "jwt": {"secret": SECRET}, "cors_origins": [APP]}
    config = configure(tmp_path_factory.mktemp("doors"), shared_database.dsn, auth=auth)
    async with serving(config) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def local(
    shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    """A daemon without tokens that pages of one origin may use."""
    folder = tmp_path_factory.mktemp("local")
    config = configure(folder, shared_database.dsn, auth={"cors_origins": [APP]})
    async with serving(config) as client:
        yield client


# --- signed tokens -------------------------------------------------------------------------


async def test_a_user_of_the_front_end_reports_and_reads_what_is_theirs(
    guarded: Client, it: Bell
) -> None:
    eve = guarded.with_token(supabase("eve"))
    event = {"provider": "p", "model": "signed", "inputTokens": 7, "source": "app"}

    assert (await eve.update(snapshot(model="signed"))).data["userId"] == "eve"
    assert (await eve.post("/api/token-monitor/events", json=event)).json["accepted"] == 1
    sql = "select source from usage_events where user_id = 'eve' and model = 'signed'"
    assert await it.value(sql) == "jwt:eve/app"
    listed = (await eve.get(USAGE)).json["items"]
    assert {item["userId"] for item in listed} == {"eve"}
    (await eve.get("/metrics")).problem(403)


async def test_reports_of_all_users_are_one_series(guarded: Client) -> None:
    for user in ("u-1", "u-2"):
        await guarded.with_token(supabase(user)).update(snapshot())

    samples = await acting(guarded, "ops").samples("health")
    named = {s.labels["source"] for s in samples if s.name == "quotabell_ingest_events_total"}
    assert "jwt/update" in named
    assert not [name for name in named if "u-1" in name]


async def test_what_is_wrong_with_a_token_stands_in_the_header(guarded: Client) -> None:
    def challenge(reply: Any) -> str:
        return str(reply.headers["WWW-Authenticate"])

    expired = supabase("eve", exp=1)
    reply = await guarded.with_token(expired).get(USAGE)

    assert reply.problem(401)["detail"] == "this token has expired"
    assert challenge(reply) == (
        'Bearer realm="quotabell", error="invalid_token",'
        ' error_description="this token has expired"'
    )
    assert challenge(await guarded.get(USAGE)) == 'Bearer realm="quotabell"'
    little = await acting(guarded, "reader").update(snapshot())
    assert challenge(little) == (
        'Bearer realm="quotabell", error="insufficient_scope", scope="ingest"'
    )
    assert not any(part.encode() in reply.body for part in expired.split("."))


async def test_no_secret_is_shown(guarded: Client) -> None:
    shown = (await acting(guarded, "ops").get("/-/config")).body

    assert json.loads(shown)["auth"]["jwt"]["secret"] == "<secret>"
    assert SECRET.encode() not in shown


async def test_a_reload_replaces_the_key_and_the_origins(
    shared_database: Database, tmp_path: Path
) -> None:
    def auth(secret: str, origin: str) -> Config:
        given = {"tokens": TOKENS, "jwt": {"secret": secret}, "cors_origins": [origin]}
        return configure(tmp_path, shared_database.dsn, auth=given)

    async with serving(auth(SECRET, APP), reread=lambda: auth(OTHER, "http://new")) as client:
        old, new = (client.with_token(supabase("eve", secret=s)) for s in (SECRET, OTHER))
        assert (await old.get(USAGE)).status == 200
        (await new.get(USAGE)).problem(401)

        assert (await acting(client, "ops").post("/-/reload")).status == 204
        (await old.get(USAGE)).problem(401)
        assert (await new.get(USAGE)).status == 200
        asked = await client.get(USAGE, headers={"Origin": "http://new"})
        assert asked.headers["Access-Control-Allow-Origin"] == "http://new"


# --- pages of other origins ----------------------------------------------------------------


def _preflight(client: Client, path: str, origin: str = APP, method: str = "POST") -> Any:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type",
        "Sec-Fetch-Site": "cross-site",
    }
    return client.call("OPTIONS", path, headers=headers)


def _opened(reply: Any) -> list[str]:
    return [name for name in reply.headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize("who", ["guarded", "local"])
async def test_a_page_of_an_allowed_origin_may_ask_and_read(
    who: str, guarded: Client, local: Client
) -> None:
    client = guarded if who == "guarded" else local
    asked = await _preflight(client, UPDATE)
    own = client.with_token(supabase("eve")) if who == "guarded" else client
    page = {"Origin": APP, "Sec-Fetch-Site": "cross-site"}
    answer = await own.update(snapshot(), headers=page)

    assert asked.status == 204
    assert asked.headers["Access-Control-Allow-Origin"] == APP
    assert asked.headers["Access-Control-Allow-Methods"] == "POST"
    allowed = asked.headers["Access-Control-Allow-Headers"].lower()
    assert {"authorization", "content-type"} <= set(re.split(", *", allowed))
    assert answer.status == 200
    for reply in (asked, answer):
        assert reply.headers["Access-Control-Allow-Origin"] == APP
        assert "Origin" in reply.headers["Vary"]
        assert "Access-Control-Allow-Credentials" not in reply.headers
    assert "ETag" in answer.headers["Access-Control-Expose-Headers"]


async def test_a_page_may_read_why_it_is_refused(guarded: Client) -> None:
    for reply in (
        await guarded.get(USAGE, headers={"Origin": APP}),
        await acting(guarded, "apps").get(USAGE, headers={"Origin": APP}),
    ):
        assert reply.status in (401, 403)
        assert reply.headers["Access-Control-Allow-Origin"] == APP


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "http://app.example.com",
        "https://app.example.com:8443",
        "https://app.example.com.evil.example",
        "https://app.example.com/",
        "null",
        "*",
        "",
    ],
)
async def test_pages_of_other_origins_get_nothing(
    origin: str, guarded: Client, local: Client
) -> None:
    simple = await acting(guarded, "reader").get(USAGE, headers={"Origin": origin})

    assert simple.status == 200  # whoever has a token may ask, but no browser shows it the page
    assert _opened(simple) == []
    assert "Origin" in simple.headers["Vary"]
    refused = await _preflight(guarded, USAGE, origin)
    assert (refused.status, _opened(refused)) == (405, [])
    (await _preflight(local, USAGE, origin)).problem(403)
    (await local.get(USAGE, headers={"Origin": origin})).problem(403)


@pytest.mark.parametrize("path", [*OPERATORS, "/v1/traces", USAGE + "/no-id"])
async def test_what_is_not_for_pages_stays_closed_to_allowed_origins(
    path: str, guarded: Client, local: Client
) -> None:
    for reply in (
        await _preflight(guarded, path, method="GET"),
        await acting(guarded, "ops").get(path, headers={"Origin": APP}),
    ):
        assert _opened(reply) == []
    assert (await local.get(path, headers={"Origin": APP})).status == 403
    assert (await _preflight(local, path)).status == 403


async def test_an_allowed_origin_does_not_open_other_hosts(local: Client) -> None:
    """A page may be of an allowed origin and still be sent here by a rebound name."""
    headers = {"Origin": APP, "Host": "evil.example"}

    (await local.get(USAGE, headers=headers)).problem(403)


async def test_without_configured_origins_nothing_is_said_of_them(client: Client) -> None:
    reply = await client.get(STATUS)

    assert _opened(reply) == []
    assert "Origin" not in reply.headers.get("Vary", "")


# --- too many bad tokens -------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _from(address: str, token: str) -> Any:
    transport = Mock()
    transport.get_extra_info = {"peername": (address, 40_000)}.get
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return make_mocked_request("GET", USAGE, headers, transport=transport)


def _gate(clock: Clock, failures: int = 3) -> Gate:
    known = Mock(scopes=("read",), user=None)
    known.name = "reader"
    known.token.get_secret_value = lambda: "the-right-token"
    return Gate([known], open_metrics=False, failures=failures, clock=clock)


async def test_an_address_that_guesses_is_told_to_wait_and_others_are_not() -> None:
    clock = Clock()
    gate = _gate(clock)
    for n in range(3):
        with pytest.raises(Unauthorized):
            gate.admit(_from("192.0.2.1", f"guess-{n}"), "read")

    with pytest.raises(TooMany) as refused:
        gate.admit(_from("192.0.2.1", "guess-3"), "read")
    assert refused.value.retry_after == pytest.approx(20.0)
    with pytest.raises(Unauthorized):
        gate.admit(_from("192.0.2.2", "guess"), "read")
    # Behind one proxy all have one address: a good token is taken all the same.
    assert gate.admit(_from("192.0.2.1", "the-right-token"), "read").name == "reader"
    # Who sends none has guessed nothing.
    with pytest.raises(Unauthorized):
        gate.admit(_from("192.0.2.1", ""), "read")
    clock.now += 20.1
    with pytest.raises(Unauthorized):
        gate.admit(_from("192.0.2.1", "guess-4"), "read")


async def test_an_address_that_guesses_on_costs_no_more_signatures() -> None:
    clock, signed = Clock(), Mock()
    signed.known.return_value = None
    signed.identify.side_effect = Unauthorized("the signature of this token is wrong")
    gate = Gate([], open_metrics=False, signed=signed, failures=3, clock=clock)
    for n in range(100):
        with pytest.raises((Unauthorized, TooMany)):
            gate.admit(_from("192.0.2.1", f"a.b.{n}"), "read")

    assert signed.identify.call_count == 30
    with pytest.raises(Unauthorized):
        gate.admit(_from("192.0.2.2", "a.b.c"), "read")
    clock.now += 60
    signed.identify.side_effect = None
    signed.identify.return_value = Caller("jwt:u", frozenset({"read"}), "u", "jwt")
    assert gate.admit(_from("192.0.2.1", "a.b.good"), "read").user == "u"


@pytest.mark.parametrize(
    ("address", "known_as"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::7", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
    ],
)
async def test_a_machine_is_one_address(address: str, known_as: str) -> None:
    """By IPv6 it has 2⁶⁴ of them."""
    assert network(_from(address, "")) == known_as


async def test_a_daemon_says_when_to_try_again(shared_database: Database, tmp_path: Path) -> None:
    auth = {"tokens": TOKENS, "failures_per_minute": 2}
    async with serving(configure(tmp_path, shared_database.dsn, auth=auth)) as client:
        guess = client.with_token("guessed")
        replies = await asyncio.gather(*(guess.get(USAGE) for _ in range(5)))
        assert sorted(reply.status for reply in replies) == [401, 401, 429, 429, 429]
        late = next(reply for reply in replies if reply.status == 429)
        late.problem(429)
        assert 1 <= int(late.headers["Retry-After"]) <= 30
        assert (await acting(client, "reader").get(USAGE)).status == 200


# --- too many subscriptions ----------------------------------------------------------------


async def test_subscribing_is_bounded_by_caller_and_by_address() -> None:
    def user(n: int) -> Caller:
        return Caller(f"jwt:u{n}", frozenset({"push"}), f"u{n}", "jwt")

    clock = Clock()
    crowd = Crowd(2, clock=clock)
    for _ in range(2):
        crowd.take(user(0), "192.0.2.1")
    with pytest.raises(TooMany):
        crowd.take(user(0), "192.0.2.9")
    for n in range(1, 19):
        crowd.take(user(n), "192.0.2.1")
    with pytest.raises(TooMany):
        crowd.take(user(19), "192.0.2.1")
    crowd.take(user(20), "192.0.2.2")
    for _ in range(50):
        crowd.take(Caller("ops", frozenset({"admin"})), "192.0.2.1")
    clock.now += 60
    crowd.take(user(0), "192.0.2.1")


async def test_a_daemon_refuses_a_flood_of_subscriptions(
    shared_database: Database, tmp_path: Path
) -> None:
    config = configure(
        tmp_path,
        shared_database.dsn,
        auth={"tokens": TOKENS},
        push={"subscribes_per_minute": 2},
    )
    body = {"subscription": {"endpoint": "test"}}
    async with serving(config) as client:
        ada, bob = acting(client, "ada"), acting(client, "bob")
        given = [(await ada.post("/api/push/subscribe", json=body)).status for _ in range(3)]
        assert given == [200, 200, 429]
        other = {"subscription": {"endpoint": "test-of-bob"}}
        assert (await bob.post("/api/push/subscribe", json=other)).status == 200
