"""OTLP in JSON, as the specification maps it from protobuf."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from quotabell.errors import Malformed
from quotabell.formats import json_text
from quotabell.formats.names import Names, Signal
from quotabell.formats.otlp import LONG, Attrs, Point, Record, Scope, Span, Value

_KEPT = frozenset(
    {
        *("resourceSpans", "resourceLogs", "resourceMetrics", "resource", "attributes"),
        *("scopeSpans", "scopeLogs", "scopeMetrics", "scope", "name"),
        *("spans", "traceId", "spanId", "parentSpanId", "endTimeUnixNano"),
        *("logRecords", "timeUnixNano", "observedTimeUnixNano", "eventName", "body"),
        *("metrics", "sum", "histogram", "exponentialHistogram", "dataPoints"),
        *("aggregationTemporality", "startTimeUnixNano", "asInt", "asDouble", "count"),
    }
)
_LAYERS: dict[Signal, tuple[str, str, str]] = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
}
_SUMS = ("sum", "histogram", "exponentialHistogram")
_INT64 = 2**63


class _Pair(tuple[str, Value]):
    """An attribute with a value that is kept."""


def apart(body: bytes, signal: Signal, names: Names) -> Iterator[Span | Record | Point]:
    """The spans, records or points of a request; Malformed if it is none."""
    resources, scopes, leaves = _LAYERS[signal]
    for resource_part in _objects(_parse(body), resources):
        resource = _attributes(_object(resource_part, "resource"), None)
        for scope_part in _objects(resource_part, scopes):
            scope = Scope(resource, _text(_object(scope_part, "scope").get("name")))
            for leaf in _objects(scope_part, leaves):
                if signal == "traces":
                    yield _span(scope, leaf)
                elif signal == "logs":
                    yield _record(scope, leaf)
                elif _text(leaf.get("name")) in names.metrics:
                    yield from _points(scope, leaf)


def _parse(body: bytes) -> dict[str, Any]:
    """The request without what is not needed. Other threads run between its objects."""
    json_text.bounded(body)
    try:
        value = json.loads(body.decode("utf-8-sig"), object_hook=_slim)
    except (ValueError, RecursionError):
        raise Malformed("the body is no OTLP request in JSON") from None
    if not isinstance(value, dict):
        raise Malformed("the body is no OTLP request in JSON: it is no object")
    return value


def _slim(found: dict[str, Any]) -> Any:
    if "key" in found:
        value = found.get("value")
        return _Pair((found["key"], value)) if isinstance(value, Value) else None
    if len(found) == 1:
        ((name, value),) = found.items()
        if name.endswith("Value"):
            return _value(name, value)
    return {name: value for name, value in found.items() if name in _KEPT}


def _value(name: str, value: Any) -> Value | None:
    if name == "intValue":
        return _integer(value)
    if name == "doubleValue":
        return _number(value)
    if name == "stringValue" and isinstance(value, str):
        return value
    return value if name == "boolValue" and isinstance(value, bool) else None


def _objects(parent: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    found = parent.get(name) or []
    if not isinstance(found, list):
        raise Malformed(f"{name} must be an array")
    for item in found:
        if not isinstance(item, dict):
            raise Malformed(f"{name} must hold objects")
        yield item


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    found = parent.get(name)
    return found if isinstance(found, dict) else {}


def _attributes(parent: dict[str, Any], longest: int | None) -> Attrs:
    found = parent.get("attributes") or []
    if not isinstance(found, list):
        raise Malformed("attributes must be an array")
    return {
        name: value
        for name, value in (pair for pair in found if isinstance(pair, _Pair))
        if isinstance(name, str)
        and (longest is None or not isinstance(value, str) or len(value) <= longest)
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) and len(value) <= LONG else ""


def _integer(value: Any) -> int | None:
    if isinstance(value, str):
        text = value.removeprefix("-")
        if not (text.isascii() and text.isdecimal() and len(text) < 20):
            return None
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) <= _INT64 * 2 else None


def _number(value: Any) -> float | None:
    if isinstance(value, str):  # "NaN", "Infinity", as protobuf's JSON has them, count nothing
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:
        return None


def _span(scope: Scope, span: dict[str, Any]) -> Span:
    return Span(
        scope,
        _text(span.get("traceId")).lower(),
        _text(span.get("spanId")).lower(),
        _text(span.get("parentSpanId")).lower(),
        _integer(span.get("endTimeUnixNano")) or 0,
        _attributes(span, LONG),
    )


def _record(scope: Scope, record: dict[str, Any]) -> Record:
    attributes = _attributes(record, LONG)
    named = (record.get("eventName"), record.get("body"), attributes.get("event.name"))
    return Record(
        scope,
        _text(record.get("traceId")).lower(),
        _text(record.get("spanId")).lower(),
        _integer(record.get("timeUnixNano")) or _integer(record.get("observedTimeUnixNano")) or 0,
        tuple(name for name in map(_text, named) if name),
        attributes,
    )


def _points(scope: Scope, metric: dict[str, Any]) -> Iterator[Point]:
    for kind in _SUMS:
        data = _object(metric, kind)
        for point in _objects(data, "dataPoints"):
            if kind == "sum":
                value, count = _integer(point.get("asInt")), 0
                if value is None:
                    value = _number(point.get("asDouble"))  # type: ignore[assignment]
            else:
                value = _number(point.get("sum"))  # type: ignore[assignment]
                count = _integer(point.get("count")) or 0
            if value is not None:
                yield Point(
                    scope,
                    _text(metric.get("name")),
                    _integer(data.get("aggregationTemporality")) or 0,
                    _integer(point.get("startTimeUnixNano")) or 0,
                    _integer(point.get("timeUnixNano")) or 0,
                    value,
                    count,
                    _attributes(point, None),
                )
