"""What the points of OTLP metrics say of the tokens that calls consumed.

Points of one time that differ only in what they count (input, output, cache…) are one event. A
delta is an event whose key is all that names its points, so that an export sent twice counts
once. A cumulative sum is resolved where the last one is known.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from quotabell.domain.events import UsageEvent
from quotabell.domain.series import UNKNOWN_START, Cumulative, Role, nested
from quotabell.domain.series import Point as SeriesPoint
from quotabell.domain.usage import BIGINT_MAX
from quotabell.errors import FieldError
from quotabell.formats import received
from quotabell.formats.names import MODEL, MetricRule, Names
from quotabell.formats.otlp import (
    CUMULATIVE,
    DELTA,
    OTHER_SOURCE,
    Attrs,
    Point,
    Read,
    moment,
    user,
)
from quotabell.formats.otlp_usage import digest
from quotabell.formats.received import Call, Received, first

POINTS_AN_EVENT = 8  # at most, on average: there are fewer kinds
OVERFLOW = "otel.metric.overflow"  # what an SDK folds series into when it has too many


class _Group(NamedTuple):
    """What makes points one event."""

    series: str  # digest of the resource, scope, family and attributes
    temporality: int
    family: str


class _Member(NamedTuple):
    point: Point
    role: Role
    rule: MetricRule


def points(found: Iterable[Point], read: Read) -> Received:
    """The events that points of metrics tell of."""
    result = Received()
    told: list[Point] = []
    for point in found:
        if len(told) < POINTS_AN_EVENT * read.max_batch:
            told.append(point)
        else:
            result.refuse(_too_many(read))
    for group, members in _groups(told, read.names).items():
        if len(result.events) >= read.max_batch:
            result.add(_too_many(read))
        else:
            result.add(_event(group, members, read), members[0].point.scope.name)
    return result


def _too_many(read: Read) -> FieldError:
    return FieldError("", f"is one of more than {read.max_batch} at once")


def _groups(told: list[Point], names: Names) -> dict[_Group, list[_Member]]:
    present = {(id(point.scope), point.metric) for point in told}
    groups: dict[_Group, list[_Member]] = {}
    for point in told:
        rule = names.metrics[point.metric]
        if rule.unless and (id(point.scope), rule.unless) in present:
            continue
        role = _role(point.attributes, rule)
        if role is None:
            continue
        shared = {k: v for k, v in point.attributes.items() if k not in rule.by}
        series = digest(
            [point.scope.resource, point.scope.name, rule.family, sorted(shared.items())]
        )
        group = _Group(series, point.temporality, rule.family)
        groups.setdefault(group, []).append(_Member(point, role, rule))
    return groups


def _role(attributes: Attrs, rule: MetricRule) -> Role | None:
    """What a point counts; None: nothing that others do not, or that is understood."""
    if attributes.get(OVERFLOW) is True:
        return "other"  # input and output of any model together
    if not rule.by:
        return rule.role
    for name in rule.by:
        value = attributes.get(name)
        if isinstance(value, str) and value in rule.roles:
            return rule.roles[value]
    return None


def _event(group: _Group, members: list[_Member], read: Read) -> UsageEvent | FieldError | None:
    point, _, rule = members[0]
    if group.temporality not in (DELTA, CUMULATIVE):
        return FieldError("aggregationTemporality", "must be 1 (delta) or 2 (cumulative)")
    amounts: dict[Role, int] = {}
    for member in members:
        value = member.point.value
        if not math.isfinite(value) or not 0 <= value <= BIGINT_MAX:
            return FieldError("value", f"must be from 0 to {BIGINT_MAX}")
        amounts[member.role] = amounts.get(member.role, 0) + round(value)
    at = _latest(member.point.time for member in members)
    attributes, scope = point.attributes, point.scope
    folded = attributes.get(OVERFLOW) is True
    call = Call(
        received.source(scope.service, OTHER_SOURCE),
        None,
        at or read.bounds.now,
        first(read.names.span.provider, attributes.get) or ("" if folded else rule.provider),
        first((*read.names.span.model, *MODEL), attributes.get),
        user(attributes, scope.resource, read.names.users),
        nested(amounts, rule.nesting),
        None,
    )
    made = received.event(call, read.bounds)
    if not isinstance(made, UsageEvent):
        return made
    if group.temporality == DELTA:
        key = [group.series, sorted((m.role, m.point.start, m.point.time) for m in members)]
        return made._replace(id="points:" + digest(key), requests=_requests(members))
    points = _sums(group, members, at or read.bounds.now)
    return made._replace(cumulative=Cumulative(points, rule.nesting))


def _latest(times: Iterable[int]) -> datetime | None:
    return moment(max(times, default=0))


def _requests(members: list[_Member]) -> int:
    """How many calls a delta is of: histograms count them, sums do not."""
    return max(0, min(max(member.point.values for member in members), BIGINT_MAX))


def _sums(group: _Group, members: list[_Member], time: datetime) -> tuple[SeriesPoint, ...]:
    """The points as the marks of series know them, each role a series of its own."""
    found: dict[str, SeriesPoint] = {}
    for point, role, _ in members:
        start = moment(point.start) or UNKNOWN_START
        key = digest([group.series, point.metric, role])
        known = found.get(key)
        value = round(point.value) + (known.value if known else 0)
        found[key] = SeriesPoint(key, role, start, time, min(value, BIGINT_MAX))
    calls = max(members, key=lambda member: member.point.values)
    if calls.point.values:
        key = digest([group.series, "requests"])
        start = moment(calls.point.start) or UNKNOWN_START
        count = min(max(0, calls.point.values), BIGINT_MAX)
        found[key] = SeriesPoint(key, "requests", start, time, count)
    return tuple(found.values())
