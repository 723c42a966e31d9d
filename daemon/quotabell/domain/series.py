"""Series of OpenTelemetry metrics: from running sums that repeat to what was added to them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from quotabell.domain.events import Kinds, UsageEvent

Role = Literal["input", "cache_read", "cache_write", "output", "reasoning", "other", "requests"]

YOUNG = timedelta(hours=1)


class Nesting(NamedTuple):
    """Whether a metric counts the cache within the input, and reasoning within the output."""

    cache_inside: bool = True
    reasoning_inside: bool = True


class Point(NamedTuple):
    """A cumulative sum: ``value`` was added to the series ``key`` from ``start`` to ``time``.

    ``start`` at the epoch: not given.
    """

    key: str
    role: Role
    start: datetime
    time: datetime
    value: int


class Cumulative(NamedTuple):
    """The points of one event, which its kinds are yet to be made of."""

    points: tuple[Point, ...]
    nesting: Nesting


class MarkKey(NamedTuple):
    """One run of a series. ``start`` tells the runs of restarted processes apart."""

    source: str
    series_key: str
    start: datetime


class Mark(NamedTuple):
    """How far a run of a series had been counted. ``time`` None: never before.

    ``restarted``: an earlier run of the series is known.
    """

    value: int
    time: datetime | None
    restarted: bool = False


UNKNOWN_START = datetime(1970, 1, 1, tzinfo=UTC)


def nested(amounts: Mapping[Role, int], nesting: Nesting) -> Kinds:
    """Disjoint kinds of what was counted by role. A part larger than its whole lies beside it."""
    get = amounts.get
    whole_input, whole_output = get("input", 0), get("output", 0)
    read, write, reasoning = get("cache_read", 0), get("cache_write", 0), get("reasoning", 0)
    if nesting.cache_inside and read + write <= whole_input:
        whole_input -= read + write
    if nesting.reasoning_inside and reasoning <= whole_output:
        whole_output -= reasoning
    return Kinds(whole_input, read, write, whole_output, reasoning, get("other", 0))


def mark_key(event: UsageEvent, point: Point) -> MarkKey:
    """Where the mark of a point is kept; the event's source is unique to its sender."""
    return MarkKey(event.source, point.key, point.start)


def latest(events: Iterable[UsageEvent]) -> dict[MarkKey, Mark]:
    """The marks after a batch, if each of its series stood below before it."""
    found: dict[MarkKey, Mark] = {}
    for event in events:
        for point in event.cumulative.points if event.cumulative else ():
            key = mark_key(event, point)
            known = found.get(key)
            if known is None or known.time is None:
                found[key] = Mark(point.value, point.time)
            elif key.start == UNKNOWN_START:
                # Without a start a fall is the only sign of a restart, so the newest counts.
                found[key] = Mark(point.value, point.time) if point.time >= known.time else known
            else:
                found[key] = Mark(max(known.value, point.value), max(known.time, point.time))
    return found


def settled(
    events: Sequence[UsageEvent], before: Mapping[MarkKey, Mark], now: datetime
) -> list[UsageEvent | None]:
    """The events with what their series were added to; None: to none.

    ``before`` are the marks before the batch. An older or repeated time counts nothing. A new
    run of a known series counts in full. A series first seen counts in full if it began within
    the UTC day or the last hour, else what it has by now is only where counting begins: when
    and by whom that was used, and whether it was counted already, is not known.
    """
    marks = dict(before)
    order = sorted(
        (i for i, event in enumerate(events) if event.cumulative), key=lambda i: _time(events[i])
    )
    found: list[UsageEvent | None] = list(events)
    for place in order:
        event = events[place]
        assert event.cumulative is not None
        added: dict[Role, int] = {}
        for point in event.cumulative.points:
            key = mark_key(event, point)
            mark = marks.get(key, Mark(0, None))
            added[point.role] = added.get(point.role, 0) + _added(point, mark, now)
            marks[key] = _moved(point, mark)
        kinds = nested(added, event.cumulative.nesting)
        found[place] = None
        if any(kinds):
            requests = added.get("requests", 0)
            found[place] = UsageEvent(
                event.source,
                event.id,
                event.time,
                event.provider,
                event.model,
                event.user_id,
                *kinds,
                event.cost_usd,
                requests,
            )
    return found


def _time(event: UsageEvent) -> datetime:
    assert event.cumulative is not None
    return max(point.time for point in event.cumulative.points)


def _added(point: Point, mark: Mark, now: datetime) -> int:
    if mark.time is None:
        return point.value if mark.restarted or _is_young(point.start, now) else 0
    if point.time <= mark.time:
        return 0
    if point.start == UNKNOWN_START and point.value < mark.value:
        return point.value
    return max(0, point.value - mark.value)


def _moved(point: Point, mark: Mark) -> Mark:
    if mark.time is None:
        return Mark(point.value, point.time)
    if point.time <= mark.time:
        return mark
    value = point.value if point.start == UNKNOWN_START else max(mark.value, point.value)
    return Mark(value, point.time)


def _is_young(start: datetime, now: datetime) -> bool:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return start >= min(midnight, now - YOUNG)
