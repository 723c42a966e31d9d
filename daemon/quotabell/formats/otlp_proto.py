"""OTLP in protobuf. The outer layers are walked by hand and the leaves decoded one by one.

Decoding a whole request is one step during which no other thread runs; its layers are repeated
messages of lists (resources, scopes, spans), whose bounds are quickly found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

from quotabell.errors import Malformed
from quotabell.formats.names import Names, Signal
from quotabell.formats.otlp import LONG, Attrs, Point, Record, Scope, Span, Value

_BROKEN = "the body is no OTLP request in protobuf"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Of all three requests alike: resource_… = 1; of these resource = 1, scope_… = 2; of these
# scope = 1, and what they are about = 2.
_FIRST, _SECOND = 1, 2
_METRIC_NAME = 1


def apart(body: bytes, signal: Signal, names: Names) -> Iterator[Span | Record | Point]:
    """The spans, records or points of a request; Malformed if it is none."""
    try:
        for scope, leaf in _leaves(memoryview(body)):
            if signal == "traces":
                yield _span(scope, ProtoSpan.FromString(bytes(leaf)))
            elif signal == "logs":
                yield _record(scope, LogRecord.FromString(bytes(leaf)))
            elif _name(leaf) in names.metrics:
                yield from _points(scope, Metric.FromString(bytes(leaf)))
    except (DecodeError, IndexError, UnicodeDecodeError):
        raise Malformed(_BROKEN) from None


def _leaves(body: memoryview) -> Iterator[tuple[Scope, memoryview]]:
    for resource_part in _messages(body, _FIRST):
        resource: dict[str, Value] = {}
        for raw in _messages(resource_part, _FIRST):
            resource |= _attributes(Resource.FromString(bytes(raw)).attributes, None)
        for scope_part in _messages(resource_part, _SECOND):
            name = ""
            for raw in _messages(scope_part, _FIRST):
                name = InstrumentationScope.FromString(bytes(raw)).name
            scope = Scope(resource, name)
            for leaf in _messages(scope_part, _SECOND):
                yield scope, leaf


def _messages(body: memoryview, wanted: int) -> Iterator[memoryview]:
    """The length-delimited fields with a number (protobuf.dev/programming-guides/encoding)."""
    at, end = 0, len(body)
    while at < end:
        tag, at = _varint(body, at)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            size, at = _varint(body, at)
            if at + size > end:
                raise Malformed(_BROKEN)
            if number == wanted:
                yield body[at : at + size]
            at += size
        elif kind == _VARINT:
            _, at = _varint(body, at)
        elif kind in (_FIXED64, _FIXED32):
            at += 8 if kind == _FIXED64 else 4
        else:
            raise Malformed(_BROKEN)
        if number == 0 or at > end:
            raise Malformed(_BROKEN)


def _varint(body: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = body[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Malformed(_BROKEN)


def _name(metric: memoryview) -> str:
    name = ""
    for raw in _messages(metric, _METRIC_NAME):
        name = bytes(raw[:LONG]).decode("utf-8", "replace")
    return name


def _span(scope: Scope, span: Any) -> Span:
    return Span(
        scope,
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.end_time_unix_nano,
        _attributes(span.attributes, LONG),
    )


def _record(scope: Scope, record: Any) -> Record:
    attributes = _attributes(record.attributes, LONG)
    body = record.body.string_value
    named = (record.event_name, body if len(body) <= LONG else "", attributes.get("event.name"))
    return Record(
        scope,
        record.trace_id.hex(),
        record.span_id.hex(),
        record.time_unix_nano or record.observed_time_unix_nano,
        tuple(name for name in named if isinstance(name, str) and name),
        attributes,
    )


def _points(scope: Scope, metric: Any) -> Iterator[Point]:
    kind = metric.WhichOneof("data")
    if kind not in ("sum", "histogram", "exponential_histogram"):
        return
    data = getattr(metric, kind)
    for point in data.data_points:
        if kind == "sum":
            value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
            count = 0
        else:
            value, count = point.sum, point.count
        yield Point(
            scope,
            metric.name,
            data.aggregation_temporality,
            point.start_time_unix_nano,
            point.time_unix_nano,
            value,
            count,
            _attributes(point.attributes, None),
        )


def _attributes(pairs: Iterable[Any], longest: int | None) -> Attrs:
    found: dict[str, Value] = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        if kind == "string_value":
            text: str = pair.value.string_value
            if longest is None or len(text) <= longest:
                found[pair.key] = text
        elif kind in ("int_value", "double_value", "bool_value"):
            found[pair.key] = getattr(pair.value, kind)
    return found
