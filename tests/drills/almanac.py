"""What quotas in a zone with daylight saving must hold, reckoned without the product's calendar.

Changes of the clocks come at night but never at midnight in the zones this is for, and by whole
hours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

LIMIT = 100
THRESHOLDS = (80, 100)
WINDOWS = {"hour": "hour", "block": "5h", "day": "day", "week": "week", "month": "month"}
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class State(NamedTuple):
    """Of one subject in one period."""

    quota: str
    user: str
    start: datetime


def quotas(zone: ZoneInfo) -> list[dict[str, Any]]:
    """One of each window, each for users of its own."""
    return [
        {
            "name": name,
            "match": {"user": f"{name}-*"},
            "per": ["user"],
            "limit": LIMIT,
            "window": window,
            "thresholds": list(THRESHOLDS),
        }
        | ({} if window == "5h" else {"timezone": zone.key})
        for name, window in WINDOWS.items()
    ]


def midnight(day: date, zone: ZoneInfo) -> datetime:
    """When a day begins there, in UTC."""
    return datetime.combine(day, time(), zone).astimezone(UTC)


def period(quota: str, at: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The period of a quota that holds a moment, in UTC."""
    if quota in ("hour", "block"):
        length = HOUR if quota == "hour" else 5 * HOUR
        start = datetime.fromtimestamp(
            at.timestamp() // length.total_seconds() * length.seconds, UTC
        )
        return start, start + length
    day = at.astimezone(zone).date()
    if quota == "day":
        first, after = day, day + DAY
    elif quota == "week":
        first = day - day.weekday() * DAY
        after = first + 7 * DAY
    else:
        first = day.replace(day=1)
        after = (first + 31 * DAY).replace(day=1)
    return midnight(first, zone), midnight(after, zone)


def moments(first: date, days: int, zone: ZoneInfo) -> Iterator[datetime]:
    """Just after the beginning and just before the end of each day, within every third; and each
    hour of the nights in which the clocks change."""
    for number in range(days):
        start, end = (midnight(first + n * DAY, zone) for n in (number, number + 1))
        hours = (end - start) // HOUR
        night = range(1 if hours == 24 else 6)
        for hour in night if number % 3 else (*night, 9 + number % 7):
            yield start + hour * HOUR + timedelta(seconds=1)
        yield end - timedelta(minutes=1)


class Use(NamedTuple):
    user: str
    tokens: int
    at: datetime


@dataclass(slots=True)
class Almanac:
    """What was reported, by period, and what must have rung for it."""

    zone: ZoneInfo
    used: Counter[State] = field(default_factory=Counter)
    rings: Counter[tuple[State, int]] = field(default_factory=Counter)  # by threshold

    def report(self, uses: Iterable[Use], now: datetime) -> None:
        """One request: a jump rings once, for the highest, and never for a period that is over."""
        added: Counter[State] = Counter()
        for use in uses:
            added[self.state(use.user, use.at)] += use.tokens
        for state, tokens in added.items():
            before = _level(self.used[state])
            self.used[state] += tokens
            level = _level(self.used[state])
            if self.end(state) > now and level > before:
                self.rings[state, level] += 1

    def state(self, user: str, at: datetime) -> State:
        quota = user.partition("-")[0]
        return State(quota, user, period(quota, at, self.zone)[0])

    def end(self, state: State) -> datetime:
        return period(state.quota, state.start, self.zone)[1]

    def current(self, user: str, now: datetime) -> tuple[State, int] | None:
        """What is shown of a user: nothing of one that is long gone."""
        state = self.state(user, now)
        last = self.state(user, state.start - timedelta(seconds=1))
        return (state, self.used[state]) if self.used[state] or self.used[last] else None


def _level(used: int) -> int:
    return max((level for level in THRESHOLDS if used >= level), default=0)
