"""OTLP: names of every era, calls that count once, deltas, overflow, broken requests."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quotabell.config import load
from quotabell.config.sources import Identity
from quotabell.domain.events import Kinds, reduce_repeats
from quotabell.errors import Malformed
from quotabell.formats import otlp_json, otlp_proto, otlp_series, otlp_usage
from quotabell.formats.event_body import Bounds
from quotabell.formats.names import Attributes, Names
from quotabell.formats.otlp import Read
from quotabell.formats.received import Received
from quotabell.service.reading import reading_of

NOW = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)
NS = int(NOW.timestamp()) * 10**9
BOUNDS = Bounds(NOW, NOW + timedelta(minutes=5), NOW - timedelta(days=35))
READ = Read(BOUNDS, 1000, Names(users=Identity().otlp))


def pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    def value(of: Any) -> dict[str, Any]:
        if isinstance(of, bool):
            return {"boolValue": of}
        if isinstance(of, int):
            return {"intValue": str(of)}
        return {"doubleValue": of} if isinstance(of, float) else {"stringValue": of}

    return [{"key": key, "value": value(of)} for key, of in attributes.items()]


def body(kind: str, scope: str, *leaves: dict[str, Any], **resource: Any) -> bytes:
    layers = {"spans": "Spans", "logRecords": "Logs", "metrics": "Metrics"}[kind]
    attributes = {"service.name": "app"} | {k.replace("_", "."): v for k, v in resource.items()}
    inner = {"scope": {"name": scope}, kind: list(leaves)}
    outer = {"resource": {"attributes": pairs(attributes)}, f"scope{layers}": [inner]}
    return json.dumps({f"resource{layers}": [outer]}).encode()


def span(attributes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "traceId": "0" * 31 + "1",
        "spanId": "0" * 15 + "2",
        "endTimeUnixNano": str(NS),
        "attributes": pairs(attributes),
    } | fields


def traces(
    *spans: dict[str, Any], scope: str = "lib", read: Read = READ, **resource: Any
) -> Received:
    raw = body("spans", scope, *spans, **resource)
    return otlp_usage.spans(otlp_json.apart(raw, "traces", read.names), read)  # type: ignore[arg-type]


def logs(*records: dict[str, Any], scope: str = "lib", read: Read = READ) -> Received:
    raw = body("logRecords", scope, *records)
    return otlp_usage.records(otlp_json.apart(raw, "logs", read.names), read)  # type: ignore[arg-type]


def metrics(
    *found: dict[str, Any], scope: str = "lib", read: Read = READ, **resource: Any
) -> Received:
    raw = body("metrics", scope, *found, **resource)
    return otlp_series.points(otlp_json.apart(raw, "metrics", read.names), read)  # type: ignore[arg-type]


def kinds(found: Received) -> list[Kinds]:
    assert not found.errors
    return [event.kinds for event in found.events]


ERAS = {
    "1.26": {
        "gen_ai.system": "openai",
        "gen_ai.usage.prompt_tokens": 100,
        "gen_ai.usage.completion_tokens": 50,
    },
    "1.27": {
        "gen_ai.system": "openai",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 50,
    },
    "1.37": {
        "gen_ai.provider.name": "openai",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 50,
    },
    "old openllmetry": {
        "gen_ai.system": "OpenAI",
        "llm.usage.total_tokens": 150,
        "gen_ai.usage.prompt_tokens": 100,
        "gen_ai.usage.completion_tokens": 50,
    },
    "OpenInference": {
        "llm.provider": "openai",
        "openinference.span.kind": "LLM",
        "llm.token_count.prompt": 100,
        "llm.token_count.completion": 50,
        "llm.token_count.total": 150,
    },
    "numbers as text and floats": {
        "gen_ai.provider.name": "openai",
        "gen_ai.usage.input_tokens": "100",
        "gen_ai.usage.output_tokens": 50.0,
    },
}
PARTS = {
    "1.40": ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens"),
    "genai": ("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_write.input_tokens"),
    "underscores": (
        "gen_ai.usage.cache_read_input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
    ),
    "OpenInference": (
        "llm.token_count.prompt_details.cache_read",
        "llm.token_count.prompt_details.cache_write",
    ),
}
REASONING = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.details.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
)


@pytest.mark.parametrize("era", ERAS)
def test_names_of_every_era_are_read(era: str) -> None:
    (event,) = traces(span(ERAS[era])).events

    assert (event.provider, event.kinds) == ("openai", Kinds(100, 0, 0, 50))


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("reasoning", REASONING)
def test_cache_and_reasoning_are_parts(parts: str, reasoning: str) -> None:
    read, write = PARTS[parts]
    attributes = ERAS["1.37"] | {read: 60, write: 10, reasoning: 20}

    assert kinds(traces(span(attributes))) == [Kinds(30, 60, 10, 30, 20)]


def test_openlit_passes_on_what_anthropic_says() -> None:
    attributes = {
        "gen_ai.provider.name": "anthropic",
        "gen_ai.usage.input_tokens": 5000,
        "gen_ai.usage.cache_read.input_tokens": 2000,
        "gen_ai.usage.output_tokens": 7,
    }

    assert kinds(traces(span(attributes), scope="openlit.instrumentation.anthropic")) == [
        Kinds(5000, 2000, 0, 7)
    ]
    assert kinds(traces(span(attributes))) == [Kinds(3000, 2000, 0, 7)]


@pytest.mark.parametrize(
    "aggregate",
    [
        {"gen_ai.operation.name": "invoke_agent"},
        {"gen_ai.operation.name": "execute_tool"},
        {"gen_ai.operation.name": "invoke_workflow"},
        {"traceloop.span.kind": "workflow"},
        {"openinference.span.kind": "AGENT"},
    ],
)
def test_agents_tools_and_workflows_count_nothing_themselves(aggregate: dict[str, str]) -> None:
    assert not traces(span(ERAS["1.37"] | aggregate)).events


def test_spans_of_several_libraries_for_one_call_count_once() -> None:
    named = ERAS["1.37"] | {"gen_ai.response.id": "chatcmpl-1"}
    found = traces(span(named), span(named, traceId="f" * 32, spanId="e" * 16))

    assert len(reduce_repeats(found.events).events) == 1


def test_a_span_around_the_call_that_says_the_same_counts_once() -> None:
    outer = span(ERAS["1.37"], spanId="a" * 16)
    inner = span(ERAS["1.37"] | {"gen_ai.response.id": "x"}, spanId="b" * 16, parentSpanId="a" * 16)

    assert [event.id for event in traces(inner, outer).events] == ["openai/x"]
    assert len(traces(span(ERAS["1.37"], spanId="c" * 16), outer).events) == 2


def test_usage_of_0_is_not_known() -> None:
    attributes = {"gen_ai.usage.input_tokens": 0, "gen_ai.usage.output_tokens": 0}

    assert not traces(span(attributes)).events


@pytest.mark.parametrize(
    ("own", "resource", "user"),
    [
        ({"user.id": "u"}, {"user_id": "r"}, "u"),
        ({"enduser.id": "e", "gen_ai.user": "g"}, {}, "e"),
        ({"gen_ai.request.user": ""}, {"user_id": "r"}, "r"),
        ({"traceloop.association.properties.user_id": 7}, {}, "7"),
        ({}, {}, ""),
    ],
)
def test_the_user_is_the_first_that_is_named(
    own: dict[str, Any], resource: dict[str, Any], user: str
) -> None:
    (event,) = traces(span(ERAS["1.37"] | own), **resource).events

    assert event.user_id == user


CLAUDE = {
    "event.name": "api_request",
    "model": "claude-sonnet-4-5-20250929",
    "input_tokens": "50",
    "output_tokens": "77",
    "cache_read_tokens": "20",
    "cache_creation_tokens": "3",
    "cost_usd": "0.01",
    "request_id": "req_1",
    "user.email": "alice@example.com",
}


def record(attributes: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"timeUnixNano": str(NS), "attributes": pairs(attributes)} | fields


def test_requests_of_claude_code_are_events() -> None:
    name = {"body": {"stringValue": "claude_code.api_request"}}
    (event,) = logs(record(CLAUDE, **name)).events

    assert event.id == "anthropic/req_1"
    assert (event.provider, event.model) == ("anthropic", "claude-sonnet-4-5")
    assert (event.user_id, event.kinds) == ("alice@example.com", Kinds(50, 20, 3, 77))
    assert str(event.cost_usd) == "0.0100000000"


def test_a_record_without_an_id_counts_once_however_often_it_comes() -> None:
    anonymous = record(
        {k: v for k, v in CLAUDE.items() if k != "request_id"}, eventName="claude_code.api_request"
    )
    first, second = logs(anonymous, anonymous).events

    assert first.id == second.id


def test_records_of_other_events_are_nothing() -> None:
    assert not logs(record(CLAUDE | {"event.name": "user_prompt"})).items
    assert not logs(record({"input_tokens": 5}, eventName="something.else")).items


def point(value: float, attributes: dict[str, Any], start: int = NS - 60 * 10**9) -> dict[str, Any]:
    return {
        "startTimeUnixNano": str(start),
        "timeUnixNano": str(NS),
        "asInt" if isinstance(value, int) else "asDouble": value,
        "attributes": pairs(attributes),
    }


def counter(name: str, *points: dict[str, Any], temporality: int = 1) -> dict[str, Any]:
    return {
        "name": name,
        "sum": {"aggregationTemporality": temporality, "dataPoints": list(points)},
    }


def claude(**types: int) -> dict[str, Any]:
    model = {"model": "claude-opus-4-1"}
    return counter(
        "claude_code.token.usage",
        *(point(value, {"type": name} | model) for name, value in types.items()),
    )


def test_the_counter_of_claude_code_is_one_event_an_export_and_model() -> None:
    found = metrics(claude(input=50, output=77, cacheRead=20, cacheCreation=3))
    (event,) = found.events

    assert event.kinds == Kinds(50, 20, 3, 77)
    assert (event.provider, event.model, event.requests) == ("anthropic", "claude-opus-4-1", 0)
    assert (
        metrics(claude(input=50, output=77, cacheRead=20, cacheCreation=3)).events[0].id == event.id
    )
    assert metrics(claude(input=50)).events[0].id != event.id


def test_counters_of_the_inference_usage_are_one_event() -> None:
    shared = {"gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5"}
    name = "gen_ai.client.inference.usage."
    found = metrics(
        counter(name + "input_tokens", point(100, shared)),
        counter(name + "cache_read.input_tokens", point(60, shared)),
        counter(name + "output_tokens", point(50, shared)),
        counter(name + "reasoning.output_tokens", point(20, shared)),
    )

    assert kinds(found) == [Kinds(40, 60, 0, 30, 20)]


def test_what_an_sdk_folded_together_is_of_nobody_in_particular() -> None:
    folded = counter("gen_ai.client.token.usage", point(500, {"otel.metric.overflow": True}))
    (event,) = metrics(folded).events

    assert event.kinds == Kinds(other=500)
    assert (event.provider, event.model) == ("unknown", "unknown")


def test_of_two_metrics_for_the_same_tokens_one_counts() -> None:
    both = metrics(
        counter("gemini_cli.token.usage", point(10, {"type": "input", "model": "gemini-2.5-pro"})),
        counter("gen_ai.client.token.usage", point(10, {"gen_ai.token.type": "input"})),
    )
    alone = metrics(
        counter("gemini_cli.token.usage", point(10, {"type": "input", "model": "gemini-2.5-pro"}))
    )

    assert kinds(both) == [Kinds(10)]
    assert kinds(alone) == [Kinds(10)]


def test_cumulative_sums_are_left_to_be_resolved() -> None:
    told = counter(
        "gen_ai.client.token.usage", point(10, {"gen_ai.token.type": "input"}), temporality=2
    )
    (event,) = metrics(told).events

    assert event.cumulative is not None
    assert [(p.role, p.value) for p in event.cumulative.points] == [("input", 10)]


@pytest.mark.parametrize("value", [-1, 2**63, 1e300])
def test_impossible_sums_are_refused_alone(value: float) -> None:
    found = metrics(
        counter("gen_ai.client.token.usage", point(value, {"gen_ai.token.type": "input", "x": 1})),
        counter("gen_ai.client.token.usage", point(5, {"gen_ai.token.type": "input"})),
    )

    assert len(found.errors) == 1
    assert len(found.events) == 1


def test_names_of_other_tools_come_from_the_configuration(tmp_path: Any) -> None:
    path = tmp_path / "quotabell.yaml"
    path.write_text(
        """
        identity: {otlp: [who]}
        sources:
          attributes: {input: [my.in], output: [my.out], model: [my.model]}
          logs:
            - {event: my.call, default_provider: openai, input: [i], cache_read: [c],
               cache_inside: false}
          metrics:
            - {metric: my.tokens, by: kind, input: [asked], output: [said], default_provider: xai}
        """
    )
    read = Read(BOUNDS, 1000, reading_of(load(path, {})).names)
    own = {"my.in": 5, "my.out": 6, "my.model": "gpt-9", "who": "me"}
    (spanned,) = traces(span(own), read=read).events
    (logged,) = logs(record({"i": 5, "c": 9}, eventName="my.call"), read=read).events
    (measured,) = metrics(
        counter("my.tokens", point(5, {"kind": "asked"}), point(6, {"kind": "said"})), read=read
    ).events

    assert (spanned.kinds, spanned.model, spanned.user_id) == (Kinds(5, 0, 0, 6), "gpt-9", "me")
    assert (logged.kinds, logged.provider) == (Kinds(5, 9), "openai")
    assert (measured.kinds, measured.provider) == (Kinds(5, 0, 0, 6), "xai")


def test_every_word_of_the_configuration_is_one_of_the_table() -> None:
    reading = reading_of(load(None, {}))

    assert reading.names.span == Names().span
    assert set(Attributes._fields) <= set(Names().span._asdict())


def test_too_many_are_told() -> None:
    found = traces(
        *(span(ERAS["1.37"], spanId=f"{n:016x}") for n in range(4)), read=READ._replace(max_batch=3)
    )

    assert (len(found.events), len(found.errors)) == (3, 1)


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{", b'{"resourceSpans": 7}', b'{"resourceSpans": [7]}', b"\xff"]
)
def test_broken_json_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        list(otlp_json.apart(raw, "traces", Names()))


@pytest.mark.parametrize("raw", [b"\x0a", b"\x0a\xff", b"\x0b", b"\xff" * 12, b"\x0a\x02\x12\x05"])
def test_broken_protobuf_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        list(otlp_proto.apart(raw, "traces", Names()))


def test_no_request_at_all_is_an_empty_one() -> None:
    assert list(otlp_proto.apart(b"", "traces", Names())) == []
    assert list(otlp_json.apart(b"{}", "traces", Names())) == []


def test_long_texts_are_not_kept() -> None:
    long = {"gen_ai.prompt": "p" * 100_000, "user.id": "u" * 5000}
    raw = body("spans", "lib", span(ERAS["1.37"] | long))
    (found,) = otlp_json.apart(raw, "traces", Names())

    assert "user.id" not in found.attributes
    assert len(repr(found)) < 2000
