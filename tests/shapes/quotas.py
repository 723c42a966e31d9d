"""Quotas for shapes of usage, and what a forecast makes of them over 30 days."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from operator import sub
from random import Random
from typing import NamedTuple

from quotabell.domain.forecast import (
    AHEAD_LONG,
    PAST,
    PAST_FROM,
    SPARE,
    Known,
    Pace,
    Past,
    Rule,
    Usage,
    judge,
)
from tests.shapes.usage import DAY, LENGTH, WEEK, usage

WINDOWS = {"day": DAY, "week": WEEK, "month": LENGTH}
RULE = Rule(timedelta(minutes=10), timedelta(minutes=2), 0.05, timedelta(0))
BURN = 10  # minutes
HOLD = 2
LEAD = 15  # minutes by which a warning is to come before the limit is reached
SEEN = 20  # minutes before it, when what leads there must have begun to be foreseeable
SUDDEN = 3  # times the pace of before: nobody could know

_START = datetime(2026, 6, 1, tzinfo=UTC)


class Quota(NamedTuple):
    """``tokens`` a minute against ``limit`` in each whole period of ``window`` minutes."""

    shape: str
    seed: int
    window: str
    limit: int
    tokens: Sequence[int]

    def periods(self) -> Iterator[Period]:
        length = WINDOWS[self.window]
        past: list[list[int]] = []
        for start in range(0, LENGTH - length + 1, length):
            used = list(accumulate(self.tokens[start : start + length]))
            # Where nothing was used there is no state of the period, and nothing to compare with.
            yield Period(start, self.limit, used, [] if [0] in (p[-1:] for p in past) else past)
            past = [used, *past][:PAST]


@dataclass(frozen=True, slots=True)
class Period:
    """What was ``used`` of a limit by the end of each minute, also in the periods before."""

    start: int
    limit: int
    used: list[int]
    past: list[list[int]]
    full: int | None = field(init=False)  # the minute at whose end the limit is reached

    def __post_init__(self) -> None:
        full = None
        if self.used[-1] >= self.limit:
            full = next(m for m, used in enumerate(self.used) if used >= self.limit)
        object.__setattr__(self, "full", full)

    @property
    def too_early(self) -> bool:
        """Whether the limit is reached before a forecast may be made and told in time."""
        first = RULE.min_elapsed * len(self.used)
        return self.full is not None and self.full < first + HOLD + LEAD

    @property
    def sudden(self) -> bool:
        """Whether what leads to the limit began when it was too late to warn of it: in the last
        20 minutes the pace was three times that of the 20 minutes before."""
        if self.full is None:
            return False
        return self._within(self.full, SEEN) >= SUDDEN * self._within(self.full - SEEN, SEEN)

    def _within(self, minute: int, last: int) -> int:
        """What was used in the last minutes up to this one."""
        if minute < 0:
            return 0
        return self.used[minute] - (self.used[minute - last] if minute >= last else 0)


class Firing(NamedTuple):
    """An alert, from the minute it fired until it ended, or the limit was reached."""

    start: int
    end: int


def quotas(shape: str, seed: int) -> Iterator[Quota]:
    """One for each window, of which some periods are too small for the usage, and some are not."""
    tokens = usage(shape, seed)
    chance = Random(f"quotas {shape} {seed}")
    for window, length in WINDOWS.items():
        totals = sorted(sum(tokens[s : s + length]) for s in range(0, LENGTH - length + 1, length))
        typical = chance.choice((sum(totals) / len(totals), totals[int(0.8 * len(totals))]))
        size = chance.uniform(0.6, 1.5)
        if shape == "retry storm" and len(totals) > 1:
            # Enough for what people do, so that it is the storms that exhaust it.
            typical, size = totals[len(totals) // 2], 0.7 + size
        yield Quota(shape, seed, window, max(1, int(typical * size)), tokens)


def forecasts(period: Period) -> list[Firing]:
    """The alerts of a period, judged once a minute, as after each sample."""
    found: list[Firing] = []
    known, began = Known(), 0
    last = len(period.used) if period.full is None else period.full
    minute = -1
    candidates = [*_candidates(period, last), last]
    while True:
        # What fires is looked at less often, which saves half of the time.
        minute += 5 if known.fired_limit and not known.against else 1
        if known == Known():
            minute = candidates[bisect_left(candidates, minute)]
        if minute >= last:
            break
        now = _START + timedelta(minutes=period.start + minute + 1)
        verdict = judge(RULE, _seen(period, minute), known, now)
        match verdict.action:
            case "wait":
                known = Known(now)
            case "drop":
                known = Known()
            case "fire":
                known, began = Known(known.since or now, None, period.limit), minute
            case "clear":
                known = known._replace(against=now)
            case "keep":
                known = known._replace(against=None)
            case "end":
                known = Known()
                found.append(Firing(began, minute))
            case "rest":
                pass
    if known.fired_limit is not None:
        found.append(Firing(began, last))
    return found


def naive(period: Period) -> list[Firing]:
    """The same by what was used so far ÷ the time so far, held and released alike."""
    found: list[Firing] = []
    used, limit, length = period.used, period.limit, len(period.used)
    last = length if period.full is None else period.full
    first = int(RULE.min_elapsed * length)
    since = against = began = None
    for minute in range(first, last):
        if used[minute] * length >= limit * (minute + 1):
            against = None
            if since is None:
                since = minute
            if began is None and minute - since >= HOLD:
                began = minute
        elif began is None:
            since = None
        elif against is None:
            against = minute
        elif minute - against >= 5 * HOLD:
            found.append(Firing(began, minute))
            since = against = began = None
    if began is not None:
        found.append(Firing(began, last))
    return found


def _seen(period: Period, minute: int) -> Usage:
    """What the daemon knows at the end of a minute."""
    used = period.used[minute]
    start = _START + timedelta(minutes=period.start)
    return Usage(
        used,
        period.limit,
        start,
        start + timedelta(minutes=len(period.used)),
        Pace(
            (used - (period.used[minute - BURN] if minute >= BURN else 0)) / (BURN * 60),
            (used - period.used[minute - DAY]) / (DAY * 60) if minute >= DAY else None,
            (used - period.used[minute - WEEK]) / (WEEK * 60) if minute >= WEEK else None,
        ),
        past=tuple(Past(past[minute], past[-1]) for past in period.past),
    )


def _candidates(period: Period, last: int) -> list[int]:
    """Minutes at which a forecast might be made: no others are judged, which saves time."""
    used, limit = period.used, period.limit
    ahead = int(RULE.ahead / timedelta(minutes=1))
    found = [*range(min(BURN, last)), *_near(used, limit, BURN, ahead, last)]
    for window in (DAY, WEEK):
        found += _near(used, limit, window, int(AHEAD_LONG * window), last)
    return sorted({*found, *_as_before(period, last)})


def _as_before(period: Period, last: int) -> list[int]:
    """Minutes at which the periods before foretell that the limit is reached."""
    if len(period.past) < PAST:
        return []
    used, limit = period.used, period.limit
    found: Iterable[int] = range(bisect_left(used, PAST_FROM * limit), last)
    for past in period.past:
        total = past[-1]
        found = [
            m
            for m in found
            if past[m] > 0
            and (limit - used[m]) * SPARE <= (total - past[m]) * min(1.0, used[m] / past[m]) * 1.001
        ]
    return list(found)


def _near(used: list[int], limit: int, window: int, ahead: int, last: int) -> list[int]:
    """Minutes at which the limit is at most ``ahead`` minutes away at the pace of the window."""
    factor = ahead / window
    # At its fastest it is that far away from here on: what comes before need not be looked at.
    fastest = max(map(sub, used[window:last], used), default=0)
    first = max(window, bisect_left(used, limit - fastest * factor))
    pairs = zip(used[first:last], used[first - window :], strict=False)
    return [first + m for m, (now, ago) in enumerate(pairs) if limit - now <= (now - ago) * factor]
