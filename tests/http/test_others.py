"""Nobody reads, rings, mutes, ends or reports for another: every route that takes an id or a user.

Everything here belongs to bob; ada tries, with a token of hers and with a signed one.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.http.client import STATUS, UPDATE, Client, serving, snapshot
from tests.http.people import TOKENS, acting
from tests.support.bell import Bell, bell
from tests.support.daemon import configure
from tests.support.postgres import Database
from tests.support.push_browser import Browser
from tests.support.pushservice import PushService
from tests.support.tokens import SECRET, supabase
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

MONITOR = "/api/token-monitor"
WHO = ("token", "jwt")

# Without the evaluator's, and what is noted of requests that were refused.
_TABLES = """
select c.relname from pg_class c
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
    and c.relname not in ('sources', 'source_signals', 'leases', 'rounds', 'quotas')
order by c.relname
"""
_ADAS = re.compile(r'[(,":]ada[/,)"]')  # not somewhere in a hexadecimal id
_OPEN = """
select (select count(*) from deliveries where status in ('pending', 'leased'))
    + (select count(*) from notification_history where status = 'pending')
"""


@dataclass(frozen=True, slots=True)
class Belongings:
    """What bob has, by id."""

    state: str
    alert: str
    threshold: str
    silence: str
    message: str
    browser: Browser


@dataclass(frozen=True, slots=True)
class Try:
    """What ada asks for. ``gives``: the status; ``own``: what it reports must count as ada's; else
    nothing may have changed, and nothing of bob's be shown."""

    gives: int
    body: Callable[[Belongings, str], Any] | None = None
    query: str = ""
    own: bool = False


def _event(model: str) -> dict[str, Any]:
    return {
        **{"id": str(uuid4()), "time": datetime.now(UTC).isoformat()},
        **{"provider": "openai", "model": model, "inputTokens": 5},
    }


def _attributes(**values: Any) -> list[dict[str, Any]]:
    def value(of: Any) -> dict[str, Any]:
        return {"intValue": str(of)} if isinstance(of, int) else {"stringValue": of}

    return [{"key": key.replace("__", "."), "value": value(of)} for key, of in values.items()]


def _otlp(kind: str, scope: str, inner: str, record: dict[str, Any]) -> dict[str, Any]:
    resource = {"attributes": _attributes(service__name=kind, user__id="bob")}
    return {kind: [{"resource": resource, scope: [{"scope": {"name": "x"}, inner: [record]}]}]}


def _trace(model: str) -> dict[str, Any]:
    at = time.time_ns()
    return _otlp(
        *("resourceSpans", "scopeSpans", "spans"),
        {
            **{"traceId": uuid4().hex, "spanId": uuid4().hex[:16], "name": "chat", "kind": 3},
            **{"startTimeUnixNano": str(at - 10**9), "endTimeUnixNano": str(at)},
            "attributes": _attributes(
                gen_ai__operation__name="chat",
                gen_ai__provider__name="openai",
                gen_ai__request__model=model,
                gen_ai__usage__input_tokens=5,
                gen_ai__usage__output_tokens=5,
                user__id="bob",
            ),
        },
    )


def _log(model: str) -> dict[str, Any]:
    return _otlp(
        *("resourceLogs", "scopeLogs", "logRecords"),
        {
            "timeUnixNano": str(time.time_ns()),
            "body": {"stringValue": "claude_code.api_request"},
            "attributes": _attributes(
                event__name="api_request",
                model=model,
                request_id=uuid4().hex,
                input_tokens=5,
                output_tokens=5,
                user__id="bob",
            ),
        },
    )


def _metric(model: str) -> dict[str, Any]:
    at = time.time_ns()
    point = {
        **{"startTimeUnixNano": str(at - 10**9), "timeUnixNano": str(at), "asInt": "5"},
        "attributes": _attributes(type="input", model=model, user__id="bob"),
    }
    counter = {"aggregationTemporality": 1, "isMonotonic": True, "dataPoints": [point]}
    return _otlp(
        *("resourceMetrics", "scopeMetrics", "metrics"),
        {"name": "claude_code.token.usage", "sum": counter},
    )


def _litellm(model: str) -> list[dict[str, Any]]:
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    return [
        {
            **{"litellm_call_id": str(uuid4()), "status": "success", "end_user": "bob"},
            **{"custom_llm_provider": "openai", "model": model, "endTime": time.time()},
            "metadata": {"usage_object": usage, "user_api_key_user_id": "bob"},
        }
    ]


def _cloudevent(model: str) -> dict[str, Any]:
    return {
        **{"specversion": "1.0", "id": str(uuid4()), "source": "app", "type": "tokens"},
        **{"subject": "bob", "time": datetime.now(UTC).isoformat()},
        "data": {"prompt_tokens": 10, "model": model, "user": "bob"},
    }


def _silence(user: str) -> dict[str, Any]:
    end = datetime.now(UTC) + timedelta(hours=1)
    return {"matchers": {"userId": user}, "endsAt": end.isoformat(), "reason": "peace"}


def _unsubscribe(bob: Belongings, model: str) -> Any:
    return {"endpoint": bob.browser.subscription["endpoint"]}


TRIES: dict[tuple[str, str], list[Try]] = {
    ("POST", UPDATE): [
        Try(403, lambda bob, model: snapshot(userId="bob")),
        Try(403, lambda bob, model: [snapshot(model=model), snapshot(userId="bob")]),
    ],
    ("POST", MONITOR + "/events"): [
        Try(403, lambda bob, model: _event(model) | {"userId": "bob"}),
        Try(403, lambda bob, model: [_event(model), _event(model) | {"userId": "bob"}]),
        Try(403, lambda bob, model: _event(model) | {"userId": "bob"}, "?dryRun=true"),
    ],
    # Whatever user these name, the sender's is who it counts for.
    ("POST", "/api/ingest/litellm"): [Try(200, lambda bob, model: _litellm(model), own=True)],
    ("POST", "/api/ingest/cloudevents"): [Try(403, lambda bob, model: _cloudevent(model))],
    ("POST", "/api/v1/events"): [Try(403, lambda bob, model: _cloudevent(model))],
    ("POST", "/v1/traces"): [Try(200, lambda bob, model: _trace(model), own=True)],
    ("POST", "/v1/logs"): [Try(200, lambda bob, model: _log(model), own=True)],
    ("POST", "/v1/metrics"): [Try(200, lambda bob, model: _metric(model), own=True)],
    ("GET", MONITOR + "/usage"): [
        Try(200),
        Try(403, query="?userId=bob"),
        Try(403, query="?userId=b*"),
    ],
    ("DELETE", MONITOR + "/usage/{state}"): [Try(403)],
    ("GET", MONITOR + "/usage/history"): [Try(404, query="?stateId={state}")],
    ("GET", MONITOR + "/alerts"): [
        Try(200),
        Try(200, query="?status=all"),
        Try(403, query="?userId=bob"),
    ],
    ("POST", MONITOR + "/alerts/{alert}/ack"): [Try(404)],
    ("GET", MONITOR + "/sources"): [Try(200)],
    ("GET", MONITOR + "/quotas"): [Try(200)],
    ("GET", MONITOR + "/silences"): [Try(200), Try(200, query="?state=all")],
    ("GET", MONITOR + "/silences/{silence}"): [Try(404)],
    ("POST", MONITOR + "/silences"): [Try(403, lambda bob, model: _silence("bob"))],
    ("PATCH", MONITOR + "/silences/{silence}"): [Try(404, lambda bob, model: {"reason": "mine"})],
    ("DELETE", MONITOR + "/silences/{silence}"): [Try(404)],
    ("GET", MONITOR + "/thresholds"): [Try(200), Try(403, query="?userId=bob")],
    ("GET", MONITOR + "/thresholds/{threshold}"): [Try(404)],
    ("POST", MONITOR + "/thresholds"): [
        Try(403, lambda bob, model: {"userId": "bob", "thresholdPercentage": 5}),
    ],
    ("PATCH", MONITOR + "/thresholds/{threshold}"): [
        Try(404, lambda bob, model: {"isActive": False}),
    ],
    ("DELETE", MONITOR + "/thresholds/{threshold}"): [Try(404)],
    ("POST", "/api/push/subscribe"): [
        Try(403, lambda bob, model: {"userId": "bob", "subscription": {"endpoint": "test"}}),
        # Whose browser it is must be shown by its secret.
        Try(409, lambda b, model: {"subscription": b.browser.subscription | {"keys": {}}}),
    ],
    ("POST", "/api/push/unsubscribe"): [
        Try(404, _unsubscribe),
        Try(404, lambda b, m: {"subscription": b.browser.subscription | {"keys": {"auth": "x"}}}),
    ],
    ("GET", "/api/push/subscriptions"): [Try(200), Try(403, query="?userId=bob")],
    ("POST", "/api/push/test"): [Try(403, lambda bob, model: {"userId": "bob"})],
    ("GET", "/api/push/history"): [Try(200), Try(403, query="?userId=bob")],
    ("POST", "/api/push/history/{message}/resend"): [Try(404)],
}
IMPERSONAL = {
    *(("GET", path) for path in ("/-/healthy", "/-/ready", "/-/config", "/metrics", STATUS)),
    *(("GET", path) for path in ("/openapi.json", "/api/push/vapid-public-key")),
    ("POST", "/-/reload"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def push() -> AsyncIterator[PushService]:
    async with PushService() as push:
        yield push


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(
    shared_database: Database, push: PushService, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    config = configure(
        tmp_path_factory.mktemp("others"),
        shared_database.dsn,
        auth={"tokens": TOKENS, "jwt": {"secret": SECRET}},
        push={"trusted_origins": [push.origin], "tests_per_minute": 1_000},
        alerts={"evaluate_every": "5m"},  # nothing changes but by what is asked for here
        quotas=[
            {
                **{"name": "daily", "per": ["user"], "limit": 1_000_000, "window": "day"},
                "match": {"provider": "nobody"},
                "overrides": [{"match": {"user": "bob"}, "limit": 5}],
            }
        ],
    )
    async with serving(config) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bob(guarded: Client, push: PushService, shared_database: Database) -> Belongings:
    """All that bob has, settled."""
    bob = acting(guarded, "bob")
    await bob.update(snapshot(model="of-bob", tokensUsed=9_500, tokenLimit=10_000))
    key = (await bob.get("/api/push/vapid-public-key")).json["publicKey"]
    browser = push.subscribe(key)
    body = {"subscription": browser.subscription, "applicationServerKey": key}
    assert (await bob.post("/api/push/subscribe", json=body)).json["active"]
    threshold = {"thresholdPercentage": 42, "provider": "of-bob"}
    made = await bob.post(MONITOR + "/thresholds", json=threshold)
    mute = await bob.post(MONITOR + "/silences", json=_silence("bob"))
    test = await bob.post("/api/push/test", json={})

    async with bell(shared_database.dsn) as it:
        await eventually(lambda: _settled(it))
    state = (await bob.get(MONITOR + "/usage?model=of-bob")).json["items"][0]
    alert = (await bob.get(MONITOR + "/alerts?model=of-bob")).json["items"][0]
    return Belongings(
        state["id"],
        alert["id"],
        made.json["id"],
        mute.json["id"],
        test.json["notificationId"],
        browser,
    )


def _ada(guarded: Client, who: str) -> Client:
    return acting(guarded, "ada") if who == "token" else guarded.with_token(supabase("ada"))


async def _settled(it: Bell) -> bool:
    return bool(await it.value(_OPEN) == 0)


async def _rows(it: Bell) -> set[str]:
    """Every row of every table, but ada's own."""
    found = set()
    for table in [r[0] for r in await it.connection.fetch(_TABLES)]:
        rows = await it.connection.fetch(f"select t::text from public.{table} t")
        found |= {f"{table}: {row[0]}" for row in rows if not _ADAS.search(row[0])}
    return found


async def test_every_route_is_tried_or_about_nobody(guarded: Client) -> None:
    paths = (await guarded.get("/openapi.json")).json["paths"]
    routes = {(m.upper(), path) for path, methods in paths.items() for m in methods}
    ids = {name: "id" for name in Belongings.__slots__}

    tried = {(method, _filled(path, ids)) for method, path in TRIES}
    assert tried | IMPERSONAL == routes
    assert not tried & IMPERSONAL


def _filled(text: str, ids: dict[str, str]) -> str:
    for name, value in ids.items():
        text = text.replace("{" + name + "}", "{id}" if value == "id" else value)
    return text


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize(
    ("route", "n"), [(r, n) for r, tries in TRIES.items() for n in range(len(tries))], ids=str
)
async def test_ada_neither_changes_nor_sees_what_is_bobs(
    route: tuple[str, str], n: int, who: str, guarded: Client, bob: Belongings, it: Bell
) -> None:
    method, path = route
    attempt = TRIES[route][n]
    ids = {name: getattr(bob, name) for name in Belongings.__slots__ if name != "browser"}
    model = f"m-{uuid4().hex}"
    body = {"json": attempt.body(bob, model)} if attempt.body else {}
    before = await _rows(it)

    reply = await _ada(guarded, who).call(method, _filled(path + attempt.query, ids), **body)

    assert reply.status == attempt.gives, reply.body
    assert await _rows(it) == before
    if attempt.own:
        sql = "select user_id, source from usage_events where model = $1"
        ((user, source),) = await it.connection.fetch(sql, model)
        assert user == "ada"
        assert source.startswith({"token": "ada/", "jwt": "jwt:ada/"}[who])
    elif attempt.gives == 200:
        assert b"bob" not in reply.body
        assert not [value for value in ids.values() if value.encode() in reply.body]


async def test_bob_can_do_all_of_it(guarded: Client, bob: Belongings, it: Bell) -> None:
    """So it was not for another reason that ada could not."""
    ids = {name: getattr(bob, name) for name in Belongings.__slots__ if name != "browser"}
    own = acting(guarded, "bob")
    last = {"DELETE": 2, "POST": 1}
    for (method, path), tries in sorted(TRIES.items(), key=lambda t: last.get(t[0][0], 0)):
        if path.endswith("/usage/{state}") or path.endswith("/subscribe"):
            continue
        for attempt in tries:
            body = {"json": attempt.body(bob, f"m-{uuid4().hex}")} if attempt.body else {}
            reply = await own.call(method, _filled(path + attempt.query, ids), **body)
            assert reply.status < 300 or path.endswith("/unsubscribe"), (method, path, reply.body)


async def test_a_silence_of_adas_mutes_nothing_of_bobs(guarded: Client, it: Bell) -> None:
    await _ada(guarded, "jwt").post(MONITOR + "/silences", json=_silence("*"))
    bob = acting(guarded, "bob")
    await it.execute("delete from silences where user_id = 'bob'")
    await bob.update(snapshot(model="loud", tokensUsed=9_900, tokenLimit=10_000))

    async def told() -> Any:
        history = (await bob.get("/api/push/history")).json["items"]
        return [m for m in history if "loud" in m["title"] and m["status"] != "pending"]

    (message,) = await eventually(told)
    assert "silence" not in (message["error"] or "")
