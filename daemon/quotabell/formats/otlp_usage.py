"""What spans, log records and metrics of OTLP say of the tokens that calls consumed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from hashlib import sha256
from typing import Any, NamedTuple

from quotabell.domain.events import Kinds, UsageEvent
from quotabell.domain.series import Nesting
from quotabell.errors import FieldError
from quotabell.formats import naming, provider_usage, received
from quotabell.formats.names import (
    AGGREGATES,
    CACHE_BESIDE,
    SPAN,
    USAGE_TEXTS,
    Attributes,
    LogRule,
    Names,
)
from quotabell.formats.otlp import (
    OTHER_SOURCE,
    Attrs,
    Read,
    Record,
    Scope,
    Span,
    moment,
    user,
)
from quotabell.formats.received import Call, Received, count, first

_Place = tuple[str, str, int]
"""A trace, a span of it, and a total."""


class _Usage(NamedTuple):
    """What a span or record says of a call. ``id`` empty: the provider's is not told."""

    provider: str
    model: str
    id: str
    kinds: Kinds
    cost: Decimal | None


def spans(found: Iterable[Span], read: Read) -> Received:
    """The calls that spans describe.

    Several libraries may describe one: they agree in the provider and its id of the response.
    Without that id, a span around another with the same usage is taken for a repetition.
    """
    result = Received()
    anonymous: list[_Place] = []  # of events without the provider's id
    within: set[_Place] = set()
    for span in found:
        usage = _of_span(span, read.names)
        if usage is None:
            continue
        if len(result.events) >= read.max_batch:
            result.add(_too_many(read))
            continue
        key = f"span:{span.trace_id}:{span.span_id}"
        made = _event(span.scope, span.end, span.attributes, usage, key, read)
        if isinstance(made, UsageEvent):
            total = usage.kinds.total
            within.add((span.trace_id, span.parent_id, total))
            place = ("", "", 0) if usage.id else (span.trace_id, span.span_id, total)
            anonymous.append(place)
        result.add(made, span.scope.name)
    repeated = [bool(place[1]) and place in within for place in anonymous]
    if any(repeated):
        kept = [i for i, again in enumerate(repeated) if not again]
        result.events = [result.events[i] for i in kept]
        result.indices = [result.indices[i] for i in kept]
    return result


def records(found: Iterable[Record], read: Read) -> Received:
    """The calls that log records describe."""
    result = Received()
    for record in found:
        rule = _rule(record, read.names)
        usage = rule and _usage(record.scope, record.attributes, rule)
        if not usage:
            continue
        if record.span_id and rule and rule.names is read.names.span:
            key = f"span:{record.trace_id}:{record.span_id}"
        else:
            told = [record.time, record.trace_id, record.span_id, sorted(record.attributes.items())]
            key = "log:" + digest(told)
        if len(result.events) >= read.max_batch:
            result.add(_too_many(read))
        else:
            made = _event(record.scope, record.time, record.attributes, usage, key, read)
            result.add(made, record.scope.name)
    return result


def digest(told: Any) -> str:
    """A short name for something that has none."""
    text = json.dumps(told, default=str, sort_keys=True)
    return sha256(text.encode()).hexdigest()[:32]


def _too_many(read: Read) -> FieldError:
    return FieldError("", f"is one of more than {read.max_batch} at once")


def _of_span(span: Span, names: Names) -> _Usage | None:
    for attribute, aggregates in AGGREGATES.items():
        if span.attributes.get(attribute) in aggregates:
            return None
    return _usage(span.scope, span.attributes, LogRule("", names.span))


def _rule(record: Record, names: Names) -> LogRule | None:
    for name in record.names:
        for known in (name, f"{record.scope.service.replace('-', '_')}.{name}"):
            if known in names.logs:
                rule = names.logs[known]
                return rule._replace(names=names.span) if rule.names is SPAN else rule
    return None


def _usage(scope: Scope, attributes: Attrs, rule: LogRule) -> _Usage | None:
    """None: no count, or only 0, which clients send when they do not know."""
    names = rule.names
    provider = first(names.provider, attributes.get) or rule.provider
    kinds = _kinds(names, attributes, _nesting(scope, provider, rule.nesting))
    kinds = _as_written(attributes, kinds)
    if not any(kinds):
        return None
    return _Usage(
        provider,
        first(names.model, attributes.get),
        first(names.id, attributes.get),
        kinds,
        next((c for name in names.cost if (c := received.cost(attributes.get(name)))), None),
    )


def _nesting(scope: Scope, provider: str, usual: Nesting) -> Nesting:
    for beginning, of in CACHE_BESIDE:
        if scope.name.startswith(beginning) and naming.provider(provider) == of:
            return usual._replace(cache_inside=False)
    return usual


def _kinds(names: Attributes, attributes: Attrs, nesting: Nesting) -> Kinds:
    return provider_usage.disjoint(
        _count(names.input, attributes),
        _count(names.cache_read, attributes),
        _count(names.cache_write, attributes),
        _count(names.output, attributes),
        _count(names.reasoning, attributes),
        _count(names.other, attributes),
        _count(names.total, attributes),
        nesting.cache_inside,
        nesting.reasoning_inside,
    )


def _as_written(attributes: Attrs, kinds: Kinds) -> Kinds:
    """What a client passes on as its provider wrote it, if that is all that was counted."""
    for name in USAGE_TEXTS:
        text = attributes.get(name)
        told = provider_usage.written(text) if isinstance(text, str) else None
        if told is not None and told.total == kinds.total:
            return told
    return kinds


def _count(names: Iterable[str], attributes: Mapping[str, Any]) -> int:
    """The first count that is not 0."""
    return next((found for name in names if (found := count(attributes.get(name)))), 0)


def _event(
    scope: Scope, at: int, attributes: Attrs, usage: _Usage, key: str, read: Read
) -> UsageEvent | FieldError | None:
    provider = naming.provider(usage.provider, usage.model)
    return received.event(
        Call(
            received.source(scope.service, OTHER_SOURCE),
            f"{provider}/{usage.id}" if usage.id else key,
            moment(at),
            usage.provider,
            usage.model,
            user(attributes, scope.resource, read.names.users),
            usage.kinds,
            usage.cost,
        ),
        read.bounds,
    )
