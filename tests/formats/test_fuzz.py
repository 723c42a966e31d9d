"""What strangers send: real requests, mutated, into every decoder that has a route.

A decoder may refuse a body by the errors of the product; anything else is a crash. Time and
memory stay bounded by what was sent.
"""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quotabell.config.sources import Identity
from quotabell.domain.events import Kinds, UsageEvent
from quotabell.domain.usage import BIGINT_MAX, NAME_MAX
from quotabell.errors import Malformed, Rejected, TooLarge
from quotabell.formats import (
    cloudevents,
    events,
    json_reader,
    litellm,
    otlp_json,
    otlp_proto,
    otlp_series,
    otlp_usage,
    received,
    snapshot,
)
from quotabell.formats.event_body import ID_MAX, Bounds
from quotabell.formats.names import Names
from quotabell.formats.otlp import Read
from quotabell.formats.received import Received
from tests.formats.test_captures import CAPTURES, requests

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
SKEW, OLDEST = timedelta(minutes=5), NOW - timedelta(days=35)
READ = Read(Bounds(NOW, NOW + SKEW, OLDEST), 500, Names(users=Identity().otlp))
OF: dict[str, Callable[[Any, Read], Received]] = {
    "traces": otlp_usage.spans,
    "logs": otlp_usage.records,
    "metrics": otlp_series.points,
}
COMMON: dict[str, Any] = {"now": NOW, "future_skew": SKEW, "oldest": OLDEST, "max_batch": 500}


BESIDE = {"specversion": "1.0", "id": "1", "source": "s", "type": "prompt", "subject": "u"}
BINARY = {name: value for name, value in COMMON.items() if name != "max_batch"}


def _as_events(decoded: snapshot.Decoded) -> list[UsageEvent]:
    return [
        UsageEvent("", None, None, s.provider, s.model, s.user_id, *Kinds(s.tokens_used))
        for s in decoded.snapshots
    ]


def decode(name: str, body: bytes) -> list[UsageEvent]:
    """What a decoder makes of a body; nothing, if it refuses it as it should."""
    try:
        if name == "litellm":
            return litellm.decode(body, users=Identity().litellm, **COMMON).events
        if name == "cloudevents":
            return cloudevents.decode(body, **COMMON).events
        if name == "cloudevents-binary":
            return cloudevents.decode_binary(BESIDE, body, **BINARY).events
        if name == "events":
            return events.decode(body, **COMMON).events
        if name == "update":
            return _as_events(snapshot.decode(body, now=NOW, future_skew=SKEW, max_batch=500))
        signal, encoding = name.split("-")
        apart = otlp_json.apart if encoding == "json" else otlp_proto.apart
        return OF[signal](apart(body, signal, READ.names), READ).events  # type: ignore[arg-type]
    except (Malformed, Rejected, TooLarge):
        return []


def seeds() -> dict[str, list[bytes]]:
    """Real requests, by decoder."""
    found: dict[str, list[bytes]] = {"litellm": [], "cloudevents": [], "events": []}
    for request in requests():
        if request.encoding != "-":
            continue
        body = Path(CAPTURES / f"{request.name}.bin").read_bytes()
        if request.path.endswith("/litellm"):
            found["litellm"].append(body)
        elif "cloudevents" in request.content_type:
            found["cloudevents"].append(body)
        elif request.path.startswith("/v1/"):
            found.setdefault(f"{request.path[4:]}-protobuf", []).append(body)
    found["cloudevents-binary"] = [b'{"model":"m","prompt_tokens":5,"usage":{"input_tokens":1}}']
    found["update"] = [b'[{"provider":"p","model":"m","tokensUsed":5,"tokenLimit":null}]']
    found["events"] = [b'{"id":"1","time":1795352258,"provider":"p","model":"m","inputTokens":5}']
    for signal in OF:
        found[f"{signal}-json"] = [_as_json(signal)]
    return found


def _as_json(signal: str) -> bytes:
    from tests.formats import test_otlp as made

    if signal == "traces":
        return made.body("spans", "lib", made.span(made.ERAS["1.37"] | {"user.id": "u"}))
    if signal == "logs":
        return made.body("logRecords", "lib", made.record(made.CLAUDE, eventName="api_request"))
    told = made.claude(input=50, output=77, cacheRead=20)
    return made.body("metrics", "lib", told)


SEEDS = seeds()
ODD = [b"\0", b"\xff", b"\xed\xa0\x80", b"NaN", b"-1", b"1e999", b"9" * 30, b"null", b"[", b"}"]
ODD += [b'"\\ud800"', b'"\\u0000"', b"[" * 2000, b'{"a":' * 2000, b"\x80" * 12, b"true", b'""']


def mutated(body: bytes, chance: random.Random) -> bytes:
    """A body with some bytes changed, cut out, repeated, or replaced by something odd."""
    found = bytearray(body)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(found) + 1)
        end = min(len(found), at + chance.choice((0, 1, 1, 2, 8, 64, 1000)))
        what = chance.randrange(5)
        if what == 0:
            found[at:end] = chance.randbytes(end - at)
        elif what == 1:
            del found[at:end]
        elif what == 2:
            found[at:at] = found[at:end]
        else:
            found[at:end] = chance.choice(ODD)
    return bytes(found)


@pytest.mark.parametrize("name", sorted(SEEDS))
@settings(max_examples=150)
@given(seed=st.integers(0, 2**63), in_steps=st.booleans())
def test_mutated_requests_are_read_or_refused(name: str, seed: int, in_steps: bool) -> None:
    chance = random.Random(seed)
    body = mutated(chance.choice(SEEDS[name]), chance)
    began = time.process_time()

    with pytest.MonkeyPatch.context() as patch:
        if in_steps:  # as if it were large
            patch.setattr(json_reader, "_STEP", 200)
            patch.setattr(json_reader, "AT_ONCE", 1000)
            for module in (received, litellm, events, snapshot):
                patch.setattr(module, "LARGE", 1000)
            patch.setattr(otlp_proto, "_LARGE", 100)
        found = decode(name, body)
    for event in found:
        assert event.id is None or len(event.id.encode()) <= ID_MAX
        assert 0 <= min(event.kinds)
        assert event.total <= BIGINT_MAX
        assert event.time is None or OLDEST <= event.time <= NOW
        for text in (event.provider, event.model, event.user_id, event.source):
            assert len(text.encode()) <= 4 * NAME_MAX
            assert "\0" not in text
    assert time.process_time() - began < 2


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)
KEYS = {
    "litellm": [*litellm._Item.__struct_fields__, "usage_object", "additional_headers"],
    "cloudevents": [*cloudevents._Envelope.__struct_fields__, "usage", "tokens"],
    "traces-json": [*sorted(otlp_json._KEPT), "key", "value", "intValue", "stringValue"],
    "metrics-json": [*sorted(otlp_json._KEPT), "key", "value", "asInt"],
}


@pytest.mark.parametrize("name", sorted(KEYS))
@settings(max_examples=100)
@given(data=st.data())
def test_known_fields_with_unknown_contents_are_read_or_refused(
    name: str, data: st.DataObject
) -> None:
    import json

    keys = st.sampled_from(KEYS[name])
    value = st.recursive(
        JUNK,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=6),
        max_leaves=12,
    )
    decode(name, json.dumps(data.draw(value)).encode())


HOSTILE: dict[str, tuple[str, bytes]] = {
    "many empty items": ("litellm", b"[" + b"{}," * 400_000 + b"{}]"),
    "many values": ("litellm", b"[" + b"[]," * 2_000_000 + b"[]]"),
    "deep arrays": ("litellm", b"[" * 5_000_000),
    "deep objects": ("cloudevents", b'{"a":' * 1_000_000),
    "many resources": ("traces-json", b'{"resourceSpans":[' + b"{}," * 600_000 + b"{}]}"),
    "deep resources": ("traces-json", b'{"resourceSpans":' + b"[" * 1_000_000),
    "many empty resources": ("traces-protobuf", b"\x0a\x00" * 500_000),
    "many empty metrics": (
        "metrics-protobuf",
        (b"\x0a\x0a" + b"\x12\x08" + b"\x12\x02\x0a\x00" * 2) * 80_000,
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_bodies_take_bounded_time_and_memory(case: str) -> None:
    name, body = HOSTILE[case]
    began = time.process_time()
    decode(name, body)
    assert time.process_time() - began < 20

    tracemalloc.start()
    try:
        decode(name, body[: len(body) // 10])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * len(body) / 10 + 10_000_000
