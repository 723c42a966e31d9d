"""Whether a limit is reached before its period ends: when to warn of that, and when not any more.

How fast usage grew says how it goes on only for a while. A burn of ten minutes that leads to the
limit in five days is mostly a burst that ends within the hour, so each window is believed only
for a while: the burn window for three times itself, a whole day and a whole week, which hold
nights and weekends, for half of themselves. The longer two tell early of what is rather sure;
what is near is seen by the short one, in time to do something about it. Of days and weeks the
three before tell what is still to come in this one, if all three say the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

DAY = timedelta(days=1)
WEEK = timedelta(days=7)

AHEAD = 3  # burn windows,
AHEAD_LEAST = timedelta(minutes=30)  # but so much at least: a warning must come in time
AHEAD_LONG = 0.5  # days, weeks
SPARE = 1.25  # what a day or a week foretells must be there even if time ran faster by this
PAST = 3  # periods before this one, all of which must foretell it
PAST_FROM = 0.25  # share of the limit that must be used before these tell anything
PAST_ALIKE = 2  # times the least that the most of them may be
KEEPS = 2  # what was foretold is still true up to so many times as far ahead
RELEASE = 5  # times ``hold``

Reason = Literal[
    "slower burn", "limit raised", "limit unknown", "period over", "exhausted", "no forecast"
]


@dataclass(frozen=True, slots=True)
class Rule:
    """``alerts.forecast``. ``min_elapsed``: share of the period before which nothing is foretold;
    ``horizon``: how far is looked ahead where no end of a period is known, 0: not at all."""

    burn_window: timedelta
    hold: timedelta
    min_elapsed: float
    horizon: timedelta

    @property
    def ahead(self) -> timedelta:
        """For how long the burn is believed to go on."""
        return max(AHEAD * self.burn_window, AHEAD_LEAST)


class Pace(NamedTuple):
    """Tokens per second over the burn window, the last day, the last 7 days; None: not known."""

    burn: float | None
    day: float | None = None
    week: float | None = None


class Past(NamedTuple):
    """An earlier period: what was used until as late in it as it is now in this one, and in all."""

    so_far: int
    total: int


class Usage(NamedTuple):
    """A quota state now. ``start`` and ``end`` of its period None: not known. ``past``: of the
    periods right before this one, as far as they compare."""

    used: int
    limit: int | None
    start: datetime | None
    end: datetime | None
    pace: Pace
    full: bool = False  # an alert of a threshold of 100 % or more fires
    past: tuple[Past, ...] = ()


class Known(NamedTuple):
    """What the rounds of before made of a state. All None: nothing.

    ``since``: the limit was foretold from then on. ``against``: from then on no more.
    ``fired_limit``: the limit for which the alert that fires was raised; None: none fires.
    """

    since: datetime | None = None
    against: datetime | None = None
    fired_limit: int | None = None


class Verdict(NamedTuple):
    """What is to be done.

    rest: nothing. wait: note ``since``. drop: forget it. fire: raise the alert. keep: note that it
    is true again. clear: note that it is not (``against``). end: resolve the alert for
    ``reason``, without a message if ``silent``.
    """

    action: Literal["rest", "wait", "drop", "fire", "keep", "clear", "end"]
    runs_out: datetime | None = None
    reason: Reason | None = None
    silent: bool = False


def judge(rule: Rule, usage: Usage, known: Known, now: datetime) -> Verdict:
    """What is to be done about the forecast of a quota state now."""
    if known.fired_limit is None:
        return _unfired(rule, usage, known, now)
    reason = _over(rule, usage, known.fired_limit, now)
    if reason is not None:
        return Verdict("end", None, reason, reason == "exhausted" and usage.full)
    if usage.pace.burn is None:  # what is not known has not ended
        return Verdict("keep" if known.against or not known.since else "rest")
    runs_out = runs_out_at(rule, usage, now, fired=True)
    if runs_out is not None:
        return Verdict("keep" if known.against or not known.since else "rest", runs_out)
    if now - (known.against or now) >= RELEASE * rule.hold:
        return Verdict("end", None, "slower burn")
    return Verdict("rest" if known.against else "clear")


def runs_out_at(rule: Rule, usage: Usage, now: datetime, *, fired: bool = False) -> datetime | None:
    """When the limit is reached, as far as that can be foretold; None: it cannot.

    ``fired``: whether it was foretold already, which takes less to stay so.
    """
    left = _left(rule, usage, now)
    if left is None or usage.limit is None or usage.full or usage.used >= usage.limit:
        return None
    remaining = usage.limit - usage.used
    burn, day, week = usage.pace
    if not fired and (not burn or remaining >= burn * left):
        return None
    further = KEEPS if fired else 1
    spare = 1.0 if fired else SPARE
    nearest = min(
        _reached(remaining, burn, left, further * rule.ahead.total_seconds()),
        _reached(remaining, day, left / spare, AHEAD_LONG * further * DAY.total_seconds()),
        _reached(remaining, week, left / spare, AHEAD_LONG * further * WEEK.total_seconds()),
        _reached(remaining, _rest(usage) / left, left / spare, left),
    )
    return None if nearest == _NEVER else now + timedelta(seconds=nearest)


_NEVER = float("inf")


def _reached(remaining: int, rate: float | None, left: float, ahead: float) -> float:
    """Seconds until the limit, if it is within both bounds."""
    if not rate:
        return _NEVER
    seconds = remaining / rate
    return seconds if seconds < left and seconds <= ahead else _NEVER


def _rest(usage: Usage) -> float:
    """What is still to be used in this period at least, as the ones before went on from here.

    They count in full where as much was used by now, else by as much less; and not at all where
    they differ among themselves.
    """
    if usage.limit is None or len(usage.past) < PAST or usage.used < PAST_FROM * usage.limit:
        return 0.0
    if any(past.so_far <= 0 for past in usage.past):
        return 0.0
    rests = [past.total - past.so_far for past in usage.past]
    if min(rests) * PAST_ALIKE < max(rests):
        return 0.0
    return min(
        rest * min(1.0, usage.used / past.so_far)
        for rest, past in zip(rests, usage.past, strict=True)
    )


def _left(rule: Rule, usage: Usage, now: datetime) -> float | None:
    """Seconds for which is looked ahead; None: nothing is foretold (yet)."""
    if usage.end is None:
        return rule.horizon.total_seconds() or None
    if usage.start is not None:
        if now - usage.start < rule.min_elapsed * (usage.end - usage.start):
            return None
    left = (usage.end - now).total_seconds()
    return left if left > 0 else None


def _unfired(rule: Rule, usage: Usage, known: Known, now: datetime) -> Verdict:
    runs_out = runs_out_at(rule, usage, now)
    if runs_out is None:
        return Verdict("drop" if known.since else "rest")
    if known.since is None and rule.hold:
        return Verdict("wait", runs_out)
    if known.since is not None and now - known.since < rule.hold:
        return Verdict("rest", runs_out)
    return Verdict("fire", runs_out)


def _over(rule: Rule, usage: Usage, fired_limit: int, now: datetime) -> Reason | None:
    """Why the alert has ended at once, if it has."""
    if usage.end is None and not rule.horizon:
        return "no forecast"
    if usage.end is not None and usage.end <= now:
        return "period over"
    if usage.limit is None:
        return "limit unknown"
    if usage.full or usage.used >= usage.limit:
        return "exhausted"
    if usage.limit > fired_limit and usage.pace.burn is not None:
        before = usage._replace(limit=fired_limit)
        if usage.used >= fired_limit or runs_out_at(rule, before, now, fired=True):
            if runs_out_at(rule, usage, now, fired=True) is None:
                return "limit raised"
    return None
