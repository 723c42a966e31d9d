"""What other programs send, over HTTP: LiteLLM, OpenTelemetry, CloudEvents."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import zlib
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
import pytest_asyncio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.http.client import Client, Reply, serving
from tests.http.test_outage import cut
from tests.support.daemon import configure
from tests.support.postgres import TEMPLATE, Cluster, Database, connected
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

LITELLM = "/api/ingest/litellm"
CLOUDEVENTS = "/api/ingest/cloudevents"
TOKENS = [
    {"name": "apps", "token": "token-of-the-apps", "scopes": ["ingest"]},
    {"name": "alice", "token": "token-of-alice-1", "scopes": ["ingest"], "user": "alice"},
    {"name": "ops", "token": "token-of-the-ops", "scopes": ["admin"]},
    {"name": "reader", "token": "token-of-a-reader", "scopes": ["read"]},
]


@pytest.fixture(scope="module")
def own_database(postgres_18: Cluster) -> Iterator[Database]:
    database = postgres_18.create_database(TEMPLATE)
    yield database
    postgres_18.drop_database(database.name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(
    own_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    config = configure(
        tmp_path_factory.mktemp("guarded"),
        own_database.dsn,
        auth={"tokens": TOKENS},
        identity={"aliases": {"alice@example.com": "alice"}},
        sources={"signals": [{"source": "apps/measured-*", "signal": "metrics"}]},
        ingest={"max_batch": 1000},
    )
    async with serving(config) as client:
        yield client


@pytest.fixture
def apps(guarded: Client) -> Client:
    return guarded.with_token("token-of-the-apps")


async def totals(guarded: Client, **labels: str) -> dict[str, float]:
    """The tokens of a model (of any provider and user, if not said otherwise) by kind."""
    found: dict[str, float] = {}
    for sample in await guarded.with_token("token-of-the-ops").samples("usage"):
        if sample.name == "quotabell_tokens_total" and labels.items() <= sample.labels.items():
            kind = sample.labels["kind"]
            found[kind] = found.get(kind, 0) + sample.value
    return {kind: value for kind, value in found.items() if value}


def item(**changes: Any) -> dict[str, Any]:
    return {
        "litellm_call_id": str(uuid4()),
        "status": "success",
        "custom_llm_provider": "openai",
        "model": "gpt-4o",
        "endTime": datetime.now(UTC).timestamp(),
        "metadata": {"usage_object": {"prompt_tokens": 10, "completion_tokens": 5}},
    } | changes


# --- LiteLLM -------------------------------------------------------------------------------


async def test_an_array_of_litellm_that_comes_again_grown_counts_once(
    apps: Client, guarded: Client
) -> None:
    first, second = item(model="grown"), item(model="grown")

    assert (await apps.post(LITELLM, json=[first])).json["accepted"] == 1
    answer = (await apps.post(LITELLM, json=[first, second])).json
    assert (answer["accepted"], answer["duplicates"]) == (1, 1)
    assert await totals(guarded, model="grown") == {"input": 20, "output": 10}


async def test_a_bad_item_never_costs_a_batch(apps: Client) -> None:
    reply = await apps.post(LITELLM, json=[item(), item(model=7), item(status="failure")])

    assert reply.status == 200
    assert (reply.json["accepted"], reply.json["skipped"]) == (1, 1)
    assert [(r["index"], r["errors"][0]["field"]) for r in reply.json["rejected"]] == [(1, "model")]


async def test_nothing_but_bad_items_is_a_problem(apps: Client) -> None:
    (await apps.post(LITELLM, json=[item(model=7)])).problem(422)


async def test_nothing_but_failures_is_none(apps: Client) -> None:
    assert (await apps.post(LITELLM, json=[item(status="failure")])).status == 200


async def test_limits_that_litellm_forwards_become_states(apps: Client, guarded: Client) -> None:
    headers = {
        "llm_provider-x-ratelimit-limit-tokens": "1000",
        "llm_provider-x-ratelimit-remaining-tokens": "400",
        "llm_provider-x-ratelimit-reset-tokens": "1h",
    }
    await apps.post(
        LITELLM, json=[item(model="limited", hidden_params={"additional_headers": headers})]
    )

    async def used() -> float | None:
        name = "quotabell_quota_used_tokens"
        ops = guarded.with_token("token-of-the-ops")
        return await ops.metric(name, quota="reported:tokens", model="limited")

    assert await eventually(used) == 600


async def test_limits_are_kept_with_their_unit_and_reset(
    apps: Client, own_database: Database
) -> None:
    reset = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=5)
    headers = {
        "llm_provider-anthropic-ratelimit-unified-5h-utilization": "0.87",
        "llm_provider-anthropic-ratelimit-unified-5h-reset": str(int(reset.timestamp())),
    }
    plan = item(custom_llm_provider="plan", hidden_params={"additional_headers": headers})
    await apps.post(LITELLM, json=plan)

    async def stored() -> list[Any]:
        async with connected(own_database.dsn) as connection:
            return await connection.fetch(
                "select quota, model, unit, tokens_used, token_limit, period_end "
                "from token_usage where provider = 'plan'"
            )

    (found,) = await eventually(stored)
    assert tuple(found) == ("reported:5h", "*", "percent", 87, 100, reset)


async def test_learned_limits_are_exposed_in_their_unit(apps: Client, guarded: Client) -> None:
    headers = {
        "llm_provider-anthropic-ratelimit-requests-limit": "50",
        "llm_provider-anthropic-ratelimit-requests-remaining": "20",
        "llm_provider-anthropic-ratelimit-tokens-limit": "1000",
        "llm_provider-anthropic-ratelimit-tokens-remaining": "400",
        "llm_provider-anthropic-ratelimit-unified-5h-utilization": "0.87",
    }
    changes = {"custom_llm_provider": "units", "hidden_params": {"additional_headers": headers}}
    await apps.post(LITELLM, json=item(**changes))

    async def shown() -> dict[tuple[str, str], float]:
        samples = await guarded.with_token("token-of-the-ops").samples("usage")
        return {
            (s.labels["quota"].removeprefix("reported:"), s.name.partition("quota_")[2]): s.value
            for s in samples
            if s.labels.get("provider") == "units" and "quota" in s.labels
        }

    async def all_shown() -> bool:
        return {quota for quota, _ in await shown()} == {"requests", "tokens", "5h"}

    await eventually(all_shown)
    assert await shown() == {
        ("requests", "used_requests"): 30,
        ("requests", "limit_requests"): 50,
        ("requests", "used_ratio"): 0.6,
        ("tokens", "used_tokens"): 600,
        ("tokens", "limit_tokens"): 1000,
        ("tokens", "used_ratio"): 0.6,
        ("5h", "used_ratio"): 0.87,
    }


# --- whose usage ---------------------------------------------------------------------------


async def test_a_bound_token_counts_for_its_user(guarded: Client) -> None:
    alice = guarded.with_token("token-of-alice-1")
    await alice.post(LITELLM, json=item(model="bound", end_user="bob"))
    await alice.post("/v1/traces", json=traces(model="bound", user="bob"))

    assert await totals(guarded, model="bound", user="alice") == {"input": 110, "output": 55}
    assert await totals(guarded, model="bound", user="bob") == {}


async def test_a_cloudevent_for_somebody_else_is_forbidden(guarded: Client) -> None:
    alice = guarded.with_token("token-of-alice-1")

    (await alice.post(CLOUDEVENTS, json=cloudevent(subject="bob"))).problem(403)
    assert (await alice.post(CLOUDEVENTS, json=cloudevent(subject="alice"))).status == 200
    assert (await alice.post(CLOUDEVENTS, json=cloudevent())).status == 200
    own = cloudevent(subject="bob", type="litellm_tokens")
    assert (await alice.post(CLOUDEVENTS, json=own)).status == 200


async def test_several_names_of_a_person_are_one(apps: Client, guarded: Client) -> None:
    for user in ("alice", "alice@example.com", "carol"):
        await apps.post(LITELLM, json=item(model="named", end_user=user))
        await apps.post("/v1/traces", json=traces(model="named", user=user))

    assert await totals(guarded, model="named", user="alice") == {"input": 220, "output": 110}
    assert await totals(guarded, model="named", user="carol") == {"input": 110, "output": 55}


# --- CloudEvents ---------------------------------------------------------------------------


def cloudevent(**changes: Any) -> dict[str, Any]:
    found = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "source": "app",
        "type": "prompt",
        "time": datetime.now(UTC).isoformat(),
        "data": {"prompt_tokens": 10, "completion_tokens": 5, "model": "cloudy"},
    } | changes
    return {key: value for key, value in found.items() if value is not None}


@pytest.mark.parametrize(
    "kind",
    ["application/cloudevents+json", "application/cloudevents-batch+json", "application/json"],
)
async def test_cloudevents_count_once_by_their_source_and_id(
    apps: Client, guarded: Client, kind: str
) -> None:
    model = kind.replace("/", "-")
    data = {"tokens": 7, "model": model}
    first, other = cloudevent(data=data), cloudevent(data=data, source="another")
    other["id"] = first["id"]
    headers = {"Content-Type": kind}
    for _ in range(2):
        reply = await apps.post(CLOUDEVENTS, data=json.dumps([first, other]), headers=headers)
        assert reply.status == 200

    assert await totals(guarded, model=model) == {"input": 14}


CE = {"ce-specversion": "1.0", "ce-source": "gateway", "ce-type": "prompt"}


async def test_a_cloudevent_may_have_its_attributes_in_headers(
    apps: Client, guarded: Client
) -> None:
    at = datetime.now(UTC).isoformat()
    headers = CE | {
        "CE-ID": "binary-1",
        "Ce-Time": at,
        "ce-subject": "J%C3%BCrgen%20%22J%22 100%25",
        "ce-source": '"the \\"gate\\" way"',
        "ce-extension": "is skipped",
    }
    data = {"model": "binary", "prompt_tokens": 7, "completion_tokens": 2}
    for _ in range(2):
        assert (await apps.post(CLOUDEVENTS, json=data, headers=headers)).status == 200
    # The same event in structured mode has the same key and is the same event.
    again = cloudevent(
        id="binary-1", source='the "gate" way', subject='Jürgen "J" 100%', time=at, data=data
    )
    reply = await apps.post(
        CLOUDEVENTS,
        data=json.dumps(again),
        headers={"Content-Type": "application/cloudevents+json"},
    )
    assert reply.json["duplicates"] == 1

    found = await totals(guarded, model="binary", user='Jürgen "J" 100%')
    assert found == {"input": 7, "output": 2}


@pytest.mark.parametrize(
    ("headers", "body", "status", "field"),
    [
        ({}, b'{"model":"m","prompt_tokens":1}', 422, "id"),
        ({"ce-id": "%ff"}, b"{}", 422, "ce-id"),
        ({"ce-id": "1", "ce-time": "yesterday"}, b'{"model":"m","prompt_tokens":1}', 422, "time"),
        ({"ce-id": "1"}, b"", 422, "data"),
        ({"ce-id": "1"}, b'{"model":7}', 422, "data.model"),
        ({"ce-id": "1", "ce-specversion": "0.3"}, b'{"prompt_tokens":1}', 422, "specversion"),
        ({"ce-id": "1"}, b"{", 400, None),
        ({"ce-id": "1", "Content-Type": "text/plain"}, b"{}", 415, None),
    ],
)
async def test_what_is_wrong_with_a_cloudevent_in_headers_is_told(
    apps: Client, headers: dict[str, str], body: bytes, status: int, field: str | None
) -> None:
    given = CE | {"Content-Type": "application/json"} | headers
    problem = (await apps.post(CLOUDEVENTS, data=body, headers=given)).problem(status)
    if field is not None:
        assert [fault["field"] for fault in problem["errors"]] == [field]


async def test_openmeters_clients_find_what_they_know(apps: Client) -> None:
    reply = await apps.post(
        "/api/v1/events",
        data=json.dumps(cloudevent()),
        headers={"Content-Type": "application/cloudevents+json"},
    )

    assert (reply.status, reply.body) == (204, b"")
    (await apps.post("/api/v1/events", json={"event": {}})).problem(422)


# --- OpenTelemetry -------------------------------------------------------------------------


def nanoseconds(at: datetime | None = None) -> str:
    return str(int((at or datetime.now(UTC)).timestamp() * 1e9))


def pairs(**attributes: Any) -> list[dict[str, Any]]:
    return [
        {
            "key": key.replace("__", "."),
            "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value},
        }
        for key, value in attributes.items()
    ]


def traces(
    *,
    model: str,
    service: str = "app",
    user: str = "",
    at: datetime | None = None,
    tokens: int = 100,
) -> dict[str, Any]:
    attributes = pairs(
        gen_ai__provider__name="openai",
        gen_ai__request__model=model,
        gen_ai__response__id=f"r-{uuid4()}",
        gen_ai__usage__input_tokens=tokens,
        gen_ai__usage__output_tokens=50,
        user__id=user,
    )
    span = {
        "traceId": uuid4().hex,
        "spanId": uuid4().hex[:16],
        "endTimeUnixNano": nanoseconds(at),
        "attributes": attributes,
    }
    scope = {"scope": {"name": "lib"}, "spans": [span]}
    resource = {"attributes": pairs(service__name=service)}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}


def metrics(
    *,
    model: str,
    service: str,
    start: datetime,
    at: datetime | None = None,
    temporality: int = 2,
    calls: int = 1,
) -> dict[str, Any]:
    def point(kind: str, sum: int) -> dict[str, Any]:
        return {
            "startTimeUnixNano": nanoseconds(start),
            "timeUnixNano": nanoseconds(at),
            "count": str(calls),
            "sum": float(sum),
            "attributes": pairs(
                gen_ai__provider__name="openai",
                gen_ai__request__model=model,
                gen_ai__token__type=kind,
            ),
        }

    points = [point("input", 100 * calls), point("output", 50 * calls)]
    histogram = {"aggregationTemporality": temporality, "dataPoints": points}
    metric = {"name": "gen_ai.client.token.usage", "histogram": histogram}
    scope = {"scope": {"name": "lib"}, "metrics": [metric]}
    resource = {"attributes": pairs(service__name=service)}
    return {"resourceMetrics": [{"resource": resource, "scopeMetrics": [scope]}]}


def protobuf(model: str, spans: int = 1) -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for _ in range(spans):
        span = scope.spans.add(
            trace_id=uuid4().bytes,
            span_id=uuid4().bytes[:8],
            end_time_unix_nano=int(nanoseconds()),
        )
        span.attributes.add(key="gen_ai.request.model").value.string_value = model
        span.attributes.add(key="gen_ai.usage.input_tokens").value.int_value = 10
    body: bytes = request.SerializeToString()
    return body


ENCODINGS: dict[str, Any] = {"identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_protobuf_is_answered_in_protobuf(
    apps: Client, guarded: Client, encoding: str
) -> None:
    reply = await apps.post(
        "/v1/traces",
        data=ENCODINGS[encoding](protobuf(f"proto-{encoding}")),
        headers={"Content-Type": "application/x-protobuf", "Content-Encoding": encoding},
    )

    assert reply.status == 200
    assert reply.headers["Content-Type"] == "application/x-protobuf"
    assert reply.body == b""
    assert await totals(guarded, model=f"proto-{encoding}") == {"input": 10}


async def test_what_is_refused_is_a_partial_success(apps: Client) -> None:
    late = traces(model="late", at=datetime(2020, 1, 1, tzinfo=UTC))
    answer = (await apps.post("/v1/traces", json=late)).json["partialSuccess"]
    assert answer["rejectedSpans"] == "1"
    assert answer["errorMessage"].startswith("time: tooOld")

    reply = await apps.post(
        "/v1/traces",
        data=protobuf("many", 1001),
        headers={"Content-Type": "application/x-protobuf"},
    )
    found = ExportTraceServiceResponse.FromString(reply.body).partial_success
    assert found.rejected_spans == 1
    assert "more than 1000" in found.error_message


async def test_all_that_was_taken_has_no_message(apps: Client) -> None:
    assert (await apps.post("/v1/traces", json=traces(model="fine"))).json == {}
    assert (await apps.post("/v1/logs", json={})).json == {}


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b"{", 400),
        ("application/x-protobuf", b"\xff", 400),
        ("text/plain", b"{}", 415),
        ("application/json", b" " * (32 * 1024 * 1024 + 1), 413),
    ],
)
async def test_what_no_exporter_sends_is_refused(
    apps: Client, kind: str, body: bytes, status: int
) -> None:
    headers = {"Content-Type": kind}
    reply = await apps.post("/v1/metrics", data=io.BytesIO(body), headers=headers)

    assert reply.status == status
    assert refusal(reply)


class Status(NamedTuple):
    """A google.rpc.Status (google/rpc/status.proto)."""

    code: int
    message: str


def refusal(reply: Reply) -> Status:
    """What an answer in either encoding says."""
    kind = reply.headers["Content-Type"].partition(";")[0]
    if kind == "application/json":
        return Status(**reply.json)
    assert kind == "application/x-protobuf"
    # Fields 1 and 2 are those of this message too, which the package for OTLP has.
    file = descriptor_pb2.FileDescriptorProto(name="status.proto", package="check")
    message = file.message_type.add(name="Status")
    message.field.add(name="code", number=1, type=5, label=1)
    message.field.add(name="message", number=2, type=9, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName("check.Status"))()
    found.ParseFromString(reply.body)
    return Status(found.code, found.message)


@pytest.mark.parametrize("kind", ["application/json", "application/x-protobuf"])
async def test_refusals_are_a_status_in_the_encoding_of_the_request(
    guarded: Client, apps: Client, kind: str
) -> None:
    headers = {"Content-Type": kind}
    for signal in ("traces", "logs", "metrics"):
        path = f"/v1/{signal}"
        broken = await apps.post(path, data=b"{", headers=headers)
        assert (broken.status, refusal(broken).code) == (400, 3)
        body = io.BytesIO(bytes(32 * 1024 * 1024 + 1))
        large = await apps.post(path, data=body, headers=headers)
        assert (large.status, refusal(large).code) == (413, 3)
        assert "ingest.max_body" in refusal(large).message
        odd = await apps.post(path, data=b"", headers={**headers, "Content-Encoding": "br"})
        assert (odd.status, refusal(odd).code) == (415, 3)
        nobody = await guarded.with_token("").post(path, data=b"", headers=headers)
        assert (nobody.status, refusal(nobody).code) == (401, 16)
        assert nobody.headers["WWW-Authenticate"].startswith("Bearer")
        reader = await guarded.with_token("token-of-a-reader").post(path, data=b"", headers=headers)
        assert (reader.status, refusal(reader).code) == (403, 7)
        assert "scope ingest" in refusal(reader).message
        asked = await apps.get(path, headers=headers)
        assert (asked.status, refusal(asked).code, asked.headers["Allow"]) == (405, 12, "POST")


async def test_cumulative_sums_count_what_they_grew_by(apps: Client, guarded: Client) -> None:
    start = datetime.now(UTC) - timedelta(minutes=5)

    def told(calls: int, minutes: float, start: datetime = start) -> dict[str, Any]:
        at = datetime.now(UTC) - timedelta(minutes=minutes)
        return metrics(model="grows", service="grows", start=start, at=at, calls=calls)

    first, second = told(1, 4), told(3, 3)
    for body in (first, first, second, told(3, 2), first):
        assert (await apps.post("/v1/metrics", json=body)).status == 200
    assert await totals(guarded, model="grows") == {"input": 300, "output": 150}

    restarted = told(1, 1, datetime.now(UTC) - timedelta(minutes=2))
    await apps.post("/v1/metrics", json=restarted)
    assert await totals(guarded, model="grows") == {"input": 400, "output": 200}
    ops = guarded.with_token("token-of-the-ops")
    assert await ops.metric("quotabell_requests_total", model="grows") == 4


async def test_one_export_to_two_daemons_at_once_counts_once(
    apps: Client, guarded: Client, own_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    config = configure(tmp_path_factory.mktemp("second"), own_database.dsn, auth={"tokens": TOKENS})
    start = datetime.now(UTC) - timedelta(minutes=5)
    async with serving(config) as other:
        second = other.with_token("token-of-the-apps")
        for calls in range(1, 11):
            body = metrics(model="both", service="both", start=start, calls=calls)
            await asyncio.gather(*(c.post("/v1/metrics", json=body) for c in (apps, second) * 3))

    async def shown() -> bool:
        return await totals(guarded, model="both") == {"input": 1000, "output": 500}

    assert await eventually(shown)


async def test_spans_stop_metrics_from_counting_the_same(apps: Client, guarded: Client) -> None:
    start = datetime.now(UTC) - timedelta(minutes=1)
    await apps.post("/v1/traces", json=traces(model="spans first", service="s1"))
    answer = await apps.post(
        "/v1/metrics", json=metrics(model="spans first", service="s1", start=start)
    )

    assert "traces of the same service.name" in answer.json["partialSuccess"]["errorMessage"]
    assert answer.json["partialSuccess"]["rejectedDataPoints"] == "0"
    assert await totals(guarded, model="spans first") == {"input": 100, "output": 50}


async def test_spans_after_metrics_count_from_where_these_ended(
    apps: Client, guarded: Client
) -> None:
    began = datetime.now(UTC) - timedelta(minutes=2)
    known = traces(model="metrics first", service="s2", at=began + timedelta(seconds=10))
    counted = metrics(
        model="metrics first", service="s2", start=began, at=began + timedelta(seconds=20)
    )
    await apps.post("/v1/metrics", json=counted)
    await apps.post("/v1/traces", json=known)
    assert await totals(guarded, model="metrics first") == {"input": 100, "output": 50}

    await apps.post("/v1/traces", json=traces(model="metrics first", service="s2"))
    later = metrics(model="metrics first", service="s2", start=began, calls=2)
    await apps.post("/v1/metrics", json=later)
    assert await totals(guarded, model="metrics first") == {"input": 200, "output": 100}


async def test_an_operator_may_choose_the_signal(apps: Client, guarded: Client) -> None:
    start = datetime.now(UTC) - timedelta(minutes=1)
    service = "measured-app"
    await apps.post("/v1/traces", json=traces(model="chosen", service=service, tokens=1))
    await apps.post("/v1/metrics", json=metrics(model="chosen", service=service, start=start))

    assert await totals(guarded, model="chosen") == {"input": 100, "output": 50}


async def test_names_signals_and_people_are_reloaded(
    own_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("reloaded")
    first = configure(folder, own_database.dsn)
    second = configure(
        folder,
        own_database.dsn,
        identity={"aliases": {"al": "alice"}},
        sources={
            "attributes": {"input": ["my.tokens"]},
            "signals": [{"source": "local/turned", "signal": "metrics"}],
        },
    )
    async with serving(first, reread=lambda: second) as client:
        await client.post("/v1/traces", json=traces(model="before", user="al", service="turned"))
        assert (await client.post("/-/reload")).status == 204
        await client.post("/v1/traces", json=traces(model="turned", service="turned"))
        body = traces(model="after", user="al")
        body["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"] += pairs(
            my__tokens=7000
        )
        await client.post("/v1/traces", json=body)

        sums = {
            (s.labels["model"], s.labels["user"], s.labels["kind"]): s.value
            for s in await client.samples("usage")
            if s.name == "quotabell_tokens_total"
        }
    assert sums["before", "al", "input"] == 100
    assert ("turned", "", "input") not in sums
    assert sums["after", "alice", "input"] == 7000


async def test_sources_of_different_senders_never_meet(apps: Client, guarded: Client) -> None:
    body = traces(model="shared", service="shared")
    alice = guarded.with_token("token-of-alice-1")
    for client in (apps, alice, apps, alice):
        await client.post("/v1/traces", json=body)

    assert await totals(guarded, model="shared") == {"input": 200, "output": 100}


async def test_sources_are_listed_with_their_signal(apps: Client, guarded: Client) -> None:
    await apps.post("/v1/traces", json=traces(model="listed", service="listed-app"))
    await apps.post(LITELLM, json=[item(), item(model=7)])

    async def listed() -> dict[str, Any]:
        reply = await guarded.with_token("token-of-the-ops").get("/api/token-monitor/sources")
        return {source["name"]: source for source in reply.json["items"]}

    async def both() -> bool:
        return {"apps/otlp/listed-app", "apps/litellm"} <= (await listed()).keys()

    await eventually(both)
    found = await listed()
    assert found["apps/otlp/listed-app"]["signal"] == "traces"
    assert found["apps/otlp/listed-app"]["events"] == 1
    assert found["apps/litellm"]["signal"] is None
    assert found["apps/litellm"]["lastEventAt"]
    assert "model" in found["apps/litellm"]["lastError"]


async def test_prompts_and_answers_are_stored_nowhere(apps: Client, own_database: Database) -> None:
    canary = "the-canary-sings-at-noon"
    body = traces(model="secretive")
    span = body["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    span["name"] = canary
    span["attributes"] += pairs(gen_ai__input__messages=canary, gen_ai__prompt=canary)
    await apps.post("/v1/traces", json=body)
    await apps.post(LITELLM, json=item(messages=[{"content": canary}], response=canary))
    await apps.post(CLOUDEVENTS, json=cloudevent(data={"tokens": 1, "prompt": canary}))

    dump = own_database.cluster.run("pg_dump", "--dbname", own_database.admin_dsn)
    assert canary not in dump


async def test_without_the_database_exporters_are_asked_to_come_again_soon(
    postgres_18: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    database = postgres_18.create_database(TEMPLATE)
    async with serving(configure(tmp_path_factory.mktemp("away"), database.dsn)) as client:
        await asyncio.to_thread(cut, database)
        start = datetime.now(UTC) - timedelta(minutes=1)
        bodies = {
            "/v1/traces": traces(model="m"),
            "/v1/metrics": metrics(model="m", service="app", start=start),
            LITELLM: item(),
            CLOUDEVENTS: cloudevent(),
        }
        for path, body in bodies.items():
            reply = await client.post(path, json=body)
            assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
            if path.startswith("/v1/"):
                assert refusal(reply).code == 14
                kind = {"Content-Type": "application/x-protobuf"}
                again = await client.post(path, data=b"", headers=kind)
                assert again.status == 200  # nothing to store
                again = await client.post("/v1/traces", data=protobuf("m"), headers=kind)
                assert (again.status, again.headers["Retry-After"]) == (503, "1")
                assert refusal(again).code == 14
    postgres_18.drop_database(database.name)
