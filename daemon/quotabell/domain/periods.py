"""Windows of quotas and their periods: calendar windows in a zone, or blocks of hours.

The periods of a window cut time into pieces without gaps or overlaps, in every zone and
through every change of its clocks: a day may have 23 or 25 hours, or be skipped whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

Calendar = Literal["hour", "day", "week", "month"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_BLOCK_HOURS = 24 * 366
_BLOCK = re.compile(r"([1-9][0-9]{0,4})h")
_SECOND = timedelta(seconds=1)
_TICK = timedelta(microseconds=1)


class Period(NamedTuple):
    """``[start, end)``, both in UTC."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class CalendarWindow:
    """An hour, day, week (from Monday) or month as the clocks of a zone show it."""

    unit: Calendar
    zone: ZoneInfo

    def period_of(self, at: datetime) -> Period:
        """The period that holds the moment ``at`` (with a zone)."""
        local = at.astimezone(self.zone).replace(tzinfo=None)
        boundaries = sorted({b for wall in self._around(local) for b in self._moments(wall)})
        after = next(i for i, boundary in enumerate(boundaries) if boundary > at)
        return Period(boundaries[after - 1], boundaries[after])

    def _around(self, local: datetime) -> Iterator[datetime]:
        """Wall clock boundaries that surely enclose ``local``, whatever the clocks did."""
        floor = _floor(self.unit, local)
        before = _floor(self.unit, floor - _SECOND)
        yield _floor(self.unit, before - _SECOND)
        yield before
        yield floor
        for _ in range(3):
            floor = _next(self.unit, floor)
            yield floor

    def _moments(self, wall: datetime) -> Iterator[datetime]:
        """When the zone's clocks show ``wall``; where they skip it, when they skip."""
        first = wall.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
        second = wall.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        if second < first:
            yield _change_between(self.zone, second, first)
            return
        yield first
        if self.unit == "hour":
            yield second  # an hour that comes twice is two hours; a day is not two days


@dataclass(frozen=True, slots=True)
class BlockWindow:
    """Blocks of so many elapsed hours, counted from an anchor; clock changes shift nothing."""

    hours: int
    anchor: datetime = EPOCH

    def period_of(self, at: datetime) -> Period:
        """The period that holds the moment ``at`` (with a zone)."""
        length = timedelta(hours=self.hours)
        start = self.anchor + (at - self.anchor) // length * length
        start = start.astimezone(UTC)
        return Period(start, start + length)


Window = CalendarWindow | BlockWindow


def around(window: Window, now: datetime, ahead: timedelta, most: int) -> Iterator[Period]:
    """The period before the one of ``now``, that one, and those that begin within ``ahead`` of
    its end, at least one; ``most`` in all."""
    present = window.period_of(now)
    yield window.period_of(present.start - _TICK)
    yield present
    period = present
    for _ in range(most - 2):
        period = window.period_of(period.end)
        yield period
        if period.end > present.end + ahead:
            return


def parse_window(text: str, zone: ZoneInfo, anchor: datetime = EPOCH) -> Window:
    """The window that a configuration means; ValueError says what is allowed."""
    if text in get_args(Calendar):
        return CalendarWindow(text, zone)  # type: ignore[arg-type]
    match = _BLOCK.fullmatch(text)
    if match is None or int(match[1]) > MAX_BLOCK_HOURS:
        raise ValueError("must be hour, day, week, month, or a number of hours such as 5h")
    return BlockWindow(int(match[1]), anchor)


def _floor(unit: Calendar, wall: datetime) -> datetime:
    if unit == "hour":
        return wall.replace(minute=0, second=0, microsecond=0)
    midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit == "week":
        return midnight - timedelta(days=midnight.weekday())
    return midnight.replace(day=1) if unit == "month" else midnight


def _next(unit: Calendar, floor: datetime) -> datetime:
    if unit == "month":
        return _floor(unit, floor + timedelta(days=31))
    return (
        floor
        + {
            "hour": timedelta(hours=1),
            "day": timedelta(days=1),
            "week": timedelta(weeks=1),
        }[unit]
    )


def _change_between(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """The moment, to the second, at which the zone's offset changes within (low, high]."""
    before = low.astimezone(zone).utcoffset()
    while high - low > _SECOND:
        middle = low + (high - low) // 2
        middle = middle.replace(microsecond=0)
        if middle <= low:
            break
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high
