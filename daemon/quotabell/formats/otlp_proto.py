"""OTLP in protobuf. The outer layers are walked by hand and the leaves decoded one by one.

Decoding a whole request is one step during which no other thread runs; its layers are repeated
messages of lists (resources, scopes, spans), whose bounds are quickly found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    NumberDataPoint,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

from quotabell.errors import Malformed
from quotabell.formats.json_reader import Body
from quotabell.formats.names import Names, Signal
from quotabell.formats.otlp import LONG, Attrs, Point, Record, Scope, Span, Value

_BROKEN = "the body is no OTLP request in protobuf"
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Of all three requests alike: resource_… = 1; of these resource = 1, scope_… = 2; of these
# scope = 1, and what they are about = 2.
_FIRST, _SECOND = 1, 2
_METRIC_NAME = 1
# Of what may hold a metric's points the kinds that are sums; of these data_points = 1,
# aggregation_temporality = 2.
_POINTS: Mapping[int, Any] = {
    7: NumberDataPoint,
    9: HistogramDataPoint,
    10: ExponentialHistogramDataPoint,
}

_LARGE, _LONG_FIELD = 1024 * 1024, 64 * 1024  # bytes


def apart(body: Body, signal: Signal, names: Names) -> Iterator[Span | Record | Point]:
    """The spans, records or points of a request; Malformed if it is none."""
    try:
        for scope, leaf in _leaves(memoryview(body)):
            if signal == "traces":
                yield _span(scope, ProtoSpan.FromString(_short(leaf)))
            elif signal == "logs":
                yield _record(scope, LogRecord.FromString(_short(leaf)))
            elif (name := _name(leaf)) in names.metrics:
                yield from _points(scope, name, leaf)
    except (DecodeError, IndexError, UnicodeDecodeError):
        raise Malformed(_BROKEN) from None


def _leaves(body: memoryview) -> Iterator[tuple[Scope, memoryview]]:
    for resource_part in _messages(body, _FIRST):
        resource: dict[str, Value] = {}
        for raw in _messages(resource_part, _FIRST):
            resource |= _attributes(Resource.FromString(_short(raw)).attributes, None)
        for scope_part in _messages(resource_part, _SECOND):
            name = ""
            for raw in _messages(scope_part, _FIRST):
                name = InstrumentationScope.FromString(_short(raw)).name
            scope = Scope(resource, name)
            for leaf in _messages(scope_part, _SECOND):
                yield scope, leaf


def _messages(body: memoryview, wanted: int) -> Iterator[memoryview]:
    """The length-delimited fields with a number."""
    return (
        body[start:end]
        for number, kind, start, end in _fields(body)
        if number == wanted and kind == _BYTES
    )


def _fields(body: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Number, kind, and where its value begins and ends, of each field
    (protobuf.dev/programming-guides/encoding)."""
    at, end = 0, len(body)
    while at < end:
        tag, start = _varint(body, at)
        number, kind = tag >> 3, tag & 7
        if kind == _BYTES:
            size, start = _varint(body, start)
            at = start + size
        elif kind == _VARINT:
            _, at = _varint(body, start)
        elif kind in (_FIXED64, _FIXED32):
            at = start + (8 if kind == _FIXED64 else 4)
        else:
            raise Malformed(_BROKEN)
        if number == 0 or at > end:
            raise Malformed(_BROKEN)
        yield number, kind, start, at


def _short(message: memoryview) -> bytes:
    """A message; if it is large, without its long fields: of these no name, id or count is one,
    and what they are of would be decoded too long at once."""
    if len(message) <= _LARGE:
        return bytes(message)
    short, begin = bytearray(), 0
    for _, _, start, end in _fields(message):
        if end - start <= _LONG_FIELD:
            short += message[begin:end]
        begin = end
    return bytes(short)


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


def _points(scope: Scope, name: str, metric: memoryview) -> Iterator[Point]:
    """Point by point, since one metric may hold all that there is."""
    for number, kind, start, end in _fields(metric):
        point_of = _POINTS.get(number)
        if point_of is None or kind != _BYTES:
            continue
        data = metric[start:end]
        temporality = _temporality(data)
        for raw in _messages(data, _FIRST):
            point = point_of.FromString(_short(raw))
            if point_of is NumberDataPoint:
                value = point.as_int if point.WhichOneof("value") == "as_int" else point.as_double
                count = 0
            else:
                value, count = point.sum, point.count
            yield Point(
                scope,
                name,
                temporality,
                point.start_time_unix_nano,
                point.time_unix_nano,
                value,
                count,
                _attributes(point.attributes, None),
            )


def _temporality(data: memoryview) -> int:
    found = 0
    for number, kind, start, _ in _fields(data):
        if number == _SECOND and kind == _VARINT:
            found = _varint(data, start)[0]
    return found


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
