"""OTLP in JSON, as the specification maps it from protobuf."""

from __future__ import annotations

import math
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from quotabell.errors import Malformed
from quotabell.formats.json_reader import Body, Reader
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


class _Long(str):
    """The digest of a long text: enough to tell series apart."""


def apart(body: Body, signal: Signal, names: Names) -> Iterator[Span | Record | Point]:
    """The spans, records or points of a request; Malformed if it is none.

    Read leaf by leaf, so that other threads run in between.
    """
    for scope, leaf in _leaves(Reader(body), signal):
        if signal == "traces":
            yield _span(scope, leaf)
        elif signal == "logs":
            yield _record(scope, leaf)
        elif _text(leaf.get("name")) in names.metrics:
            yield from _points(scope, leaf)


Leaf = tuple[Scope, dict[str, Any]]


def _leaves(reader: Reader, signal: Signal) -> Iterator[Leaf]:
    resources, scopes, leaves = _LAYERS[signal]
    if reader.peek() != "{":
        raise Malformed("the body is no OTLP request in JSON: it is no object")
    for name in reader.members():
        if name != resources:
            reader.skip()
            continue
        for _ in _elements(reader, resources):
            yield from _of_resource(reader, scopes, leaves)
    if reader.peek():
        raise Malformed("broken JSON: something follows the object")


def _of_resource(reader: Reader, scopes: str, leaves: str) -> Iterator[Leaf]:
    resource: dict[str, Value] = {}
    known, before = False, []  # what came before the resource waits for it
    for name in _members(reader, "resources"):
        if name == "resource":
            resource.update(_attributes(_described(reader), with_long=True))
            known = True
        elif name == scopes:
            for _ in _elements(reader, scopes):
                for leaf in _of_scope(reader, resource, leaves):
                    if known:
                        yield leaf
                    else:
                        before.append(leaf)
        else:
            reader.skip()
    yield from before


def _of_scope(reader: Reader, resource: Attrs, leaves: str) -> Iterator[Leaf]:
    scope: Scope | None = None
    before: list[dict[str, Any]] = []
    for name in _members(reader, "scopes"):
        if name == "scope":
            scope = Scope(resource, _text(_described(reader).get("name")))
        elif name == leaves:
            for _ in _elements(reader, leaves):
                leaf = reader.value(_slim)
                if not isinstance(leaf, dict):
                    raise Malformed(f"{leaves} must hold objects")
                if scope is None:
                    before.append(leaf)
                else:
                    yield scope, leaf
        else:
            reader.skip()
    scope = scope or Scope(resource, "")
    for leaf in before:
        yield scope, leaf


def _elements(reader: Reader, name: str) -> Iterator[None]:
    """The elements of an array; none for null."""
    if reader.peek() == "[":
        yield from reader.elements()
    elif reader.value():
        raise Malformed(f"{name} must be an array")


def _members(reader: Reader, name: str) -> Iterator[str]:
    if reader.peek() != "{":
        raise Malformed(f"{name} must be objects")
    return reader.members()


def _described(reader: Reader) -> dict[str, Any]:
    found = reader.value(_slim)
    return found if isinstance(found, dict) else {}


def _slim(found: dict[str, Any]) -> Any:
    if "key" in found:
        name, value = found["key"], found.get("value")
        return (name, value) if isinstance(name, str) and isinstance(value, Value) else None
    if len(found) == 1:
        ((name, value),) = found.items()
        if name.endswith("Value"):
            return _value(name, value)
    slim = {name: value for name, value in found.items() if name in _KEPT}
    if "attributes" in slim:
        slim["attributes"] = _mapping(slim["attributes"])
    return slim


def _mapping(attributes: Any) -> Attrs:
    """Attributes as a mapping; only of them `_slim` makes tuples."""
    if not isinstance(attributes, list):
        raise Malformed("attributes must be an array")
    return dict(pair for pair in attributes if isinstance(pair, tuple))


def _value(name: str, value: Any) -> Value | None:
    if name == "intValue":
        return _integer(value)
    if name == "doubleValue":
        return _number(value)
    if name == "stringValue" and isinstance(value, str):
        if len(value) <= LONG:
            return value
        return _Long(sha256(value.encode("utf-8", "surrogatepass")).hexdigest())
    return value if name == "boolValue" and isinstance(value, bool) else None


def _objects(parent: dict[str, Any], name: str) -> Iterator[dict[str, Any]]:
    found = parent.get(name) or []
    if not isinstance(found, list):
        raise Malformed(f"{name} must be an array")
    found.reverse()
    while found:  # freed one by one: all at once, no other thread would run meanwhile
        item = found.pop()
        if not isinstance(item, dict):
            raise Malformed(f"{name} must hold objects")
        yield item


def _object(parent: dict[str, Any], name: str) -> dict[str, Any]:
    found = parent.get(name)
    return found if isinstance(found, dict) else {}


def _attributes(parent: dict[str, Any], *, with_long: bool = False) -> Attrs:
    found: Attrs = parent.get("attributes") or {}
    if with_long:
        return found
    return {name: value for name, value in found.items() if not isinstance(value, _Long)}


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
        _attributes(span),
    )


def _record(scope: Scope, record: dict[str, Any]) -> Record:
    attributes = _attributes(record)
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
                    _attributes(point, with_long=True),
                )
