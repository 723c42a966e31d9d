"""What exporters sent in protobuf is the same in JSON, and in whatever steps it is read."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from quotabell.formats import json_reader, otlp_json, otlp_proto
from quotabell.formats.names import Names, Signal
from tests.formats.test_captures import CAPTURES, Request, requests

REQUESTS: dict[Signal, Any] = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}
IDS = frozenset({"traceId", "spanId", "parentSpanId"})


def sent(signal: Signal) -> list[tuple[Request, bytes]]:
    """The recorded requests of a signal, decompressed."""
    found = []
    for request in requests():
        if request.path == f"/v1/{signal}" and request.content_type.endswith("protobuf"):
            body = (CAPTURES / f"{request.name}.bin").read_bytes()
            if request.encoding != "-":
                body = zlib.decompress(body, 47)
            found.append((request, body))
    return found


def as_json(signal: Signal, body: bytes, *, last: str = "") -> bytes:
    """The request in OTLP's JSON; ``last``: the key that comes behind its neighbours."""

    def mapped(value: Any) -> Any:
        if isinstance(value, list):
            return [mapped(item) for item in value]
        if not isinstance(value, dict):
            return value
        names = sorted(value, key=lambda name: name == last)
        return {
            name: base64.b64decode(value[name]).hex() if name in IDS else mapped(value[name])
            for name in names
        }

    message = REQUESTS[signal].FromString(body)
    return json.dumps(mapped(MessageToDict(message, use_integers_for_enums=True))).encode()


@pytest.mark.parametrize("signal", REQUESTS)
def test_recorded_requests_are_the_same_in_both_encodings(signal: Signal) -> None:
    names, told = Names(), 0
    for request, body in sent(signal):
        in_proto = list(otlp_proto.apart(body, signal, names))
        for last in ("", "resource", "scope"):
            again = as_json(signal, body, last=last)
            assert list(otlp_json.apart(again, signal, names)) == in_proto, request.name
        told += len(in_proto)
    assert told > 0


@pytest.mark.parametrize("signal", REQUESTS)
def test_recorded_requests_are_the_same_in_small_steps(
    signal: Signal, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names()
    whole = [list(otlp_proto.apart(body, signal, names)) for _, body in sent(signal)]
    monkeypatch.setattr(json_reader, "_STEP", 256)
    monkeypatch.setattr(otlp_proto, "_LARGE", 256)
    for (request, body), expected in zip(sent(signal), whole, strict=True):
        assert list(otlp_proto.apart(memoryview(body), signal, names)) == expected, request.name
        again = as_json(signal, body)
        assert list(otlp_json.apart(again, signal, names)) == expected, request.name
