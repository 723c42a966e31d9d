"""Who may do what: tokens, their scopes and users, and the guard of a daemon without tokens."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from quotabell import app as daemon
from quotabell.http import routing
from quotabell.http.auth import SCOPES, Forbidden, Gate
from tests.http.client import STATUS, UPDATE, Client, raw, serving, snapshot
from tests.http.test_openapi import UNDESCRIBED
from tests.support.daemon import configure
from tests.support.postgres import Database
from tests.support.tokens import SECRET, supabase

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROLES: dict[str, dict[str, Any]] = {
    **{scope: {"scopes": [scope]} for scope in sorted(SCOPES)},
    "alice": {"scopes": ["ingest", "read", "push"], "user": "alice"},
}


def secret(role: str) -> str:
    return f"token-of-{role}-{role}"


TOKENS = [{"name": role, "token": secret(role)} | more for role, more in ROLES.items()]
AUTH = {"tokens": TOKENS, "jwt": {"secret": SECRET}, "failures_per_minute": 100_000}
PAGE = {"/", "/sw.js", "/manifest.webmanifest", "/web/{name}", "/web/{version}/{name}"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(
    shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    """A daemon with a token for each of ROLES, and signed ones."""
    folder = tmp_path_factory.mktemp("guarded")
    config = configure(folder, shared_database.dsn, auth=AUTH)
    async with serving(config) as client:
        yield client


def bearing(client: Client, role: str) -> Client:
    """The client as somebody: ``jwt`` is a user of the front end's, whom no token is for."""
    if role == "nobody":
        return client
    return client.with_token(supabase("carol") if role == "jwt" else secret(role))


# --- every role at every route -------------------------------------------------------------

ADMIN_ONLY = {"/api/token-monitor/usage/{id}"}
WAYS_IN = ("update", "events", "otlp", "litellm", "cloudevents")
OPEN = {"nobody", "unknown", "jwt", *ROLES}
OTLP = re.compile("/v1/(traces|logs|metrics)$")  # its refusals have a form of their own
MAY: dict[tuple[str, str], set[str]] = {
    ("GET", "/-/healthy"): OPEN,
    ("GET", "/-/ready"): OPEN,
    ("GET", "/openapi.json"): OPEN,
    ("POST", UPDATE): {"ingest", "alice", "admin"},
    ("POST", "/api/token-monitor/events"): {"ingest", "alice", "admin"},
    ("POST", "/api/ingest/litellm"): {"ingest", "alice", "admin"},
    ("POST", "/api/ingest/cloudevents"): {"ingest", "alice", "admin"},
    ("POST", "/api/v1/events"): {"ingest", "alice", "admin"},
    ("POST", "/v1/traces"): {"ingest", "alice", "admin"},
    ("POST", "/v1/logs"): {"ingest", "alice", "admin"},
    ("POST", "/v1/metrics"): {"ingest", "alice", "admin"},
    ("GET", STATUS): {"read", "alice", "admin"},
    ("GET", "/api/token-monitor/usage"): {"read", "alice", "admin"},
    ("DELETE", "/api/token-monitor/usage/{id}"): {"admin"},
    ("GET", "/api/token-monitor/alerts"): {"read", "alice", "admin"},
    ("POST", "/api/token-monitor/alerts/{id}/ack"): {"alice", "admin"},
    ("GET", "/api/token-monitor/usage/history"): {"read", "alice", "admin"},
    ("GET", "/api/token-monitor/sources"): {"read", "alice", "admin"},
    ("GET", "/api/token-monitor/silences"): {"read", "alice", "admin"},
    ("GET", "/api/token-monitor/silences/{id}"): {"read", "alice", "admin"},
    ("POST", "/api/token-monitor/silences"): {"push", "alice", "admin"},
    ("PATCH", "/api/token-monitor/silences/{id}"): {"push", "alice", "admin"},
    ("DELETE", "/api/token-monitor/silences/{id}"): {"alice", "admin"},
    ("GET", "/api/token-monitor/quotas"): {"read", "alice", "admin"},
    ("GET", "/metrics"): {"metrics", "read", "admin"},
    ("GET", "/-/config"): {"admin"},
    ("POST", "/-/reload"): {"admin"},
    ("GET", "/api/token-monitor/thresholds"): {"read", "alice", "admin"},
    ("GET", "/api/token-monitor/thresholds/{id}"): {"read", "alice", "admin"},
    ("POST", "/api/token-monitor/thresholds"): {"push", "alice", "admin"},
    ("PATCH", "/api/token-monitor/thresholds/{id}"): {"push", "alice", "admin"},
    ("DELETE", "/api/token-monitor/thresholds/{id}"): {"alice", "admin"},
    ("GET", "/api/push/vapid-public-key"): {"push", "alice", "admin"},
    ("POST", "/api/push/subscribe"): {"push", "alice", "admin"},
    ("POST", "/api/push/unsubscribe"): {"push", "alice", "admin"},
    ("GET", "/api/push/subscriptions"): {"push", "alice", "admin"},
    ("POST", "/api/push/test"): {"push", "alice", "admin"},
    ("GET", "/api/push/history"): {"read", "alice", "admin"},
    ("POST", "/api/push/history/{id}/resend"): {"alice", "admin"},
}


async def test_every_role_may_use_the_routes_that_it_should_and_no_other(guarded: Client):
    """The routes are the daemon's own: a new one fails this test until MAY has a line for it.

    A signed token may what a bound one with the same scopes may.
    """
    document = (await guarded.get("/openapi.json")).json
    routes = {(m.upper(), p) for p, methods in document["paths"].items() for m in methods}

    assert routes == MAY.keys()
    admitted: dict[tuple[str, str], set[str]] = {}
    for method, path in sorted(routes):
        admitted[method, path] = set()
        for role in OPEN:
            reply = await bearing(guarded, role).call(
                method, path.replace("{id}", "no-id"), data=b"-"
            )
            if not path.startswith(UNDESCRIBED):
                described = document["paths"][path][method.lower()]["responses"]
                assert str(reply.status) in described, (method, path, role)
            if role in ("nobody", "unknown") and reply.status == 401:
                assert reply.headers["WWW-Authenticate"].startswith("Bearer")
                assert OTLP.match(path) or reply.problem(401)
            elif reply.status == 403:
                said = reply.json["message" if OTLP.match(path) else "detail"]
                assert re.search(r"needs? the scope \w+", said)
            else:
                assert reply.status < 500
                admitted[method, path].add(role)
    assert admitted == {
        route: roles | ({"jwt"} if "alice" in roles else set()) for route, roles in MAY.items()
    }


async def test_the_router_has_no_route_beside_those(
    shared_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nor does any method of a path reach what its scope should guard."""
    apps: list[web.Application] = []

    def noting(app: web.Application, *rest: Any) -> None:
        routing.mount(app, *rest)
        apps.append(app)

    monkeypatch.setattr(daemon, "mount", noting)
    config = configure(tmp_path, shared_database.dsn, auth=AUTH)
    async with serving(config) as client:
        (app,) = apps
        found = {(r.method, r.resource.canonical) for r in app.router.routes() if r.resource}
        paths = {path for _, path in MAY} | PAGE
        gets = {path for method, path in MAY if method == "GET"} | PAGE
        shared = {path for path in paths if path.startswith("/api/")} - ADMIN_ONLY
        assert found == {
            *MAY,
            *(("GET", path) for path in PAGE),
            *(("HEAD", path) for path in gets),
            *(("OPTIONS", path) for path in shared),
            *(("*", path) for path in (*paths, "/{path}")),
        }
        for path in sorted(paths):
            place = re.sub(r"{\w+}", "no-id", path)
            head = await client.call("HEAD", place)
            if path not in gets:
                assert head.status == 405
            elif "nobody" not in MAY.get(("GET", path), OPEN):
                assert head.status == 401
            for method in ("OPTIONS", "PUT", "TRACE", "PROPFIND"):
                assert (await client.call(method, place)).status == 405


async def test_without_a_token_even_a_wrong_method_says_nothing_else(guarded: Client):
    (await guarded.get(UPDATE)).problem(405)
    (await guarded.get("/elsewhere")).problem(404)


async def test_a_refusal_names_the_missing_scope_and_the_token(guarded: Client):
    found = (await guarded.with_token(secret("read")).update(snapshot())).problem(403)

    assert "ingest" in found["detail"]
    assert "read" in found["detail"]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic " + secret("admin"),
        secret("admin"),
        "Bearer " + secret("admin")[:-1],
        "Bearer " + secret("admin") + "x",
        "Bearer " + secret("admin").upper(),
        "Bearer tök",
    ],
)
async def test_what_is_no_known_token_is_unauthorized(guarded: Client, header: str):
    (await guarded.get("/-/config", headers={"Authorization": header})).problem(401)


@pytest.mark.parametrize("header", ["bearer {}", "BEARER {}", "Bearer   {}  "])
async def test_the_scheme_is_read_as_http_says(guarded: Client, header: str):
    headers = {"Authorization": header.format(secret("admin"))}

    assert (await guarded.get("/-/config", headers=headers)).status == 200


async def test_a_refused_report_is_not_read(guarded: Client):
    (await guarded.update("{")).problem(401)


async def test_no_answer_holds_a_token(guarded: Client):
    config = await guarded.with_token(secret("admin")).get("/-/config")

    assert b"auth" in config.body
    assert not [role for role in ROLES if secret(role).encode() in config.body]


# --- bound users ---------------------------------------------------------------------------


@pytest.mark.parametrize("user", [{}, {"userId": None}, {"userId": ""}, {"userId": "alice"}])
async def test_a_bound_token_counts_for_its_user(guarded: Client, user: dict[str, Any]):
    reply = await guarded.with_token(secret("alice")).update(snapshot() | user)

    assert reply.data["userId"] == "alice"


async def test_a_bound_token_cannot_report_for_another(guarded: Client):
    alice = guarded.with_token(secret("alice"))
    own, other = snapshot(model="own"), snapshot(model="own", userId="bob")
    alone, within = await alice.update(other), await alice.update([own, other])

    assert "alice" in alone.problem(403)["detail"]
    within.problem(403)
    samples = await guarded.with_token(secret("metrics")).samples("usage")
    assert not [s for s in samples if s.labels.get("model") == "own"]


async def test_an_unbound_token_reports_for_anybody(guarded: Client):
    ingest = guarded.with_token(secret("ingest"))

    assert (await ingest.update(snapshot(userId="bob"))).data["userId"] == "bob"
    assert (await ingest.update(snapshot())).data["userId"] is None


async def test_the_counts_of_every_token_start_at_zero(guarded: Client):
    samples = await guarded.with_token(secret("metrics")).samples("health")
    counted = {s.labels["source"] for s in samples if s.name == "quotabell_ingest_events_total"}

    assert counted == {f"{role}/{route}" for role in (*ROLES, "jwt") for route in WAYS_IN}


async def test_reports_are_counted_under_the_name_of_their_token(guarded: Client):
    await guarded.with_token(secret("ingest")).update(snapshot())
    metrics = guarded.with_token(secret("metrics"))

    name = "quotabell_ingest_events_total"
    assert await metrics.metric(name, source="ingest/update", outcome="accepted")
    assert secret("ingest").encode() not in (await metrics.get("/metrics")).body


# --- metrics -------------------------------------------------------------------------------


async def test_a_user_may_not_see_the_metrics_of_all(guarded: Client):
    (await guarded.with_token(secret("alice")).get("/metrics")).problem(403)


async def test_metrics_may_be_left_open(
    shared_database: Database, tmp_path_factory: pytest.TempPathFactory
):
    config = configure(
        tmp_path_factory.mktemp("open"),
        shared_database.dsn,
        auth={"tokens": TOKENS, "open_metrics": True},
    )
    async with serving(config) as client:
        assert (await client.get("/metrics")).status == 200
        (await client.get(STATUS)).problem(401)
        (await client.get("/-/config")).problem(401)


# --- without tokens ------------------------------------------------------------------------


async def _ask(client: Client, *lines: str, version: str = "1.1") -> int:
    """The status of a request with just these headers."""
    head = "\r\n".join([f"GET {STATUS} HTTP/{version}", *lines, "Connection: close", "", ""])
    status, _ = await raw(client.url, head.encode("latin-1"))
    return status


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LocalHost:3001", 200),
        ("127.0.0.1", 200),
        ("127.0.0.1:3001", 200),
        ("[::1]", 200),
        ("[::1]:3001", 200),
        ("localhost:", 200),
        ("evil.example", 403),
        ("evil.example:3001", 403),
        ("localhost.evil.example", 403),
        ("localhost.", 403),
        ("127.0.0.1.", 403),
        ("127.0.0.1.nip.io", 403),
        ("127.0.0.2", 403),
        ("0.0.0.0", 403),
        ("192.168.0.1:3001", 403),
        ("::1", 403),
        ("[::1", 403),
        ("[::1]evil", 403),
        ("[::2]", 403),
        ("localhost:evil", 403),
        ("localhost@evil.example", 403),
        ("user@localhost", 403),
        ("", 403),
    ],
)
async def test_only_the_names_of_this_machine_are_answered(client: Client, host: str, status: int):
    assert await _ask(client, f"Host: {host}") == status


async def test_a_request_that_names_no_host_is_refused(client: Client):
    assert await _ask(client) in (400, 403)
    assert await _ask(client, version="1.0") in (400, 403)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost:3001", 200),
        ("HTTP://LOCALHOST:3001", 200),
        ("null", 403),
        ("", 403),
        ("http://localhost", 403),
        ("http://localhost:3002", 403),
        ("https://localhost:3001", 403),
        ("http://127.0.0.1:3001", 403),
        ("http://evil.example", 403),
        ("http://localhost:3001.evil.example", 403),
        ("http://localhost:3001/", 403),
    ],
)
async def test_only_pages_of_this_daemon_may_call_it(client: Client, origin: str, status: int):
    assert await _ask(client, "Host: localhost:3001", f"Origin: {origin}") == status


@pytest.mark.parametrize(
    ("site", "status"),
    [
        ("same-origin", 200),
        ("none", 200),
        ("same-site", 403),
        ("cross-site", 403),
        ("", 403),
        ("something-new", 403),
    ],
)
async def test_a_request_that_another_site_caused_is_refused(
    client: Client, site: str, status: int
):
    assert await _ask(client, "Host: localhost", f"Sec-Fetch-Site: {site}") == status


@pytest.mark.parametrize(
    ("path", "mode", "dest", "status"),
    [
        ("/", "navigate", "document", 200),
        ("/?state=7d0b", "navigate", "document", 200),
        ("/", "navigate", "iframe", 403),
        ("/", "navigate", "object", 403),
        ("/", "no-cors", "script", 403),
        ("/", "cors", "empty", 403),
        ("/metrics", "navigate", "document", 403),
        ("/sw.js", "navigate", "document", 403),
        ("/api/token-monitor/usage", "navigate", "document", 403),
    ],
)
async def test_a_link_of_another_site_leads_to_the_page_and_to_nothing_else(
    client: Client, path: str, mode: str, dest: str, status: int
):
    for site in ("cross-site", "same-site"):
        caused = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": dest}
        assert (await client.get(path, headers=caused)).status == status
        (await client.post(path, headers=caused)).problem(403)


@pytest.mark.parametrize(
    "path", ["/-/healthy", "/-/ready", "/metrics", "/openapi.json", "/nothing", UPDATE]
)
async def test_the_guard_stands_before_every_path(client: Client, path: str):
    (await client.get(path, headers={"Host": "evil.example"})).problem(403)
    (await client.post(path, headers={"Origin": "http://evil.example"})).problem(403)


async def test_a_form_of_another_page_stores_nothing(client: Client):
    """What a page can send blindly: text/plain without a preflight."""
    reply = await client.post(
        UPDATE,
        data='{"provider":"evil","model":"m","tokensUsed":1,"tokenLimit":1}',
        headers={"Origin": "http://evil.example", "Content-Type": "text/plain"},
    )

    reply.problem(403)
    assert not [s for s in await client.samples("usage") if s.labels.get("provider") == "evil"]


async def test_with_tokens_the_name_of_the_host_does_not_matter(guarded: Client):
    admin = guarded.with_token(secret("admin"))
    headers = {"Host": "quotabell.example", "Origin": "https://quotabell.example"}

    assert (await admin.get(STATUS, headers=headers)).status == 200


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("192.0.2.1", False),
        ("0.0.0.0", False),
        ("2001:db8::1", False),
        ("fe80::1%eth0", False),
        ("::ffff:192.0.2.1", False),
    ],
)
async def test_without_tokens_only_loopback_connections_are_answered(address: str, local: bool):
    """A Host header is easily forged; and a reload may take the tokens of a daemon away."""
    transport = Mock()
    transport.get_extra_info = {"sockname": (address, 3001)}.get
    request = make_mocked_request("GET", "/", {"Host": "localhost"}, transport=transport)
    gate = Gate([], open_metrics=False)

    if local:
        assert gate.admit(request, "admin").scopes == SCOPES
    else:
        with pytest.raises(Forbidden):
            gate.admit(request, None)
