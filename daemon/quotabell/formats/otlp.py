"""OTLP requests taken apart into spans, log records and points, whichever way they are encoded.

opentelemetry-proto's docs/specification.md: ``application/x-protobuf`` or ``application/json``
(lowerCamelCase, 64-bit integers as text or number, ids in hex). Only what tells of usage is
kept; long texts, which may be prompts and answers, are not even copied. Large bodies are worked
through in small steps, so that other threads run in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from quotabell.formats.event_body import Bounds
from quotabell.formats.names import Names

Value = str | int | float | bool
Attrs = Mapping[str, Value]

LONG = 4096  # characters; no name, id or user is longer
OTHER_SOURCE = "otlp"  # where a resource has no name

DELTA, CUMULATIVE = 1, 2


class Scope(NamedTuple):
    """Where spans, records and points come from."""

    resource: Attrs
    name: str

    @property
    def service(self) -> str:
        """The name of the service."""
        return str(self.resource.get("service.name", ""))


class Span(NamedTuple):
    """One operation. Ids are hex, empty if there is none; ``end`` in ns since 1970."""

    scope: Scope
    trace_id: str
    span_id: str
    parent_id: str
    end: int
    attributes: Attrs


class Record(NamedTuple):
    """A log record; ``names``: all that may be the name of its event."""

    scope: Scope
    trace_id: str
    span_id: str
    time: int
    names: tuple[str, ...]
    attributes: Attrs


class Point(NamedTuple):
    """A point of a sum or histogram. ``values``: of how many it is the sum (0: not said).

    ``start`` and ``time`` in ns since 1970, 0: not given.
    """

    scope: Scope
    metric: str
    temporality: int
    start: int
    time: int
    value: float
    values: int
    attributes: Attrs


class Read(NamedTuple):
    """How to read a request."""

    bounds: Bounds
    max_batch: int
    names: Names = Names()


def moment(nanoseconds: int) -> datetime | None:
    """A time from nanoseconds since 1970, to the microsecond; None: not given, or none."""
    if nanoseconds <= 0:
        return None
    try:
        return datetime.fromtimestamp(nanoseconds // 1000 / 1e6, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def user(attributes: Attrs, resource: Attrs, names: tuple[str, ...]) -> str:
    """Whose call it was, as the caller said it itself or for all that it does."""
    for place in (attributes, resource):
        for name in names:
            value = place.get(name)
            if isinstance(value, str) and value.strip():
                return value
            if isinstance(value, int) and not isinstance(value, bool):
                return str(value)
    return ""
