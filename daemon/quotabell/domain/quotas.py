"""Quotas: what a limit counts, for whom, over which time, and what one event adds to it."""

from __future__ import annotations

import hashlib
import json
import math
import operator
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args
from zoneinfo import ZoneInfo

from quotabell.domain.events import Kinds
from quotabell.domain.matching import Match, Patterns
from quotabell.domain.periods import EPOCH, CalendarWindow, Period, Window, parse_window
from quotabell.domain.usage import BIGINT_MAX

Kind = Literal["input", "cache_read", "cache_write", "output", "reasoning", "other"]
Weighed = Literal[Kind, "request"]
Dimension = Literal["provider", "model", "user"]
Audience = Literal["owner", "operators", "everyone"]

DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
DEFAULT_WEIGHTS: Mapping[Weighed, Decimal] = MappingProxyType(
    {**dict.fromkeys(get_args(Kind), Decimal(1)), "request": Decimal(0)}
)

NOBODY = ""  # the user of a counter that users share
SHARED = "*"  # the provider or model of a counter that several share

REMEMBERED_CALLERS = 100_000
REMEMBERED_PERIODS = 1024

Caller = tuple[str, str, str]
"""(provider, model, user) of an event; user empty: nobody in particular."""


@dataclass(frozen=True, slots=True)
class Override:
    """Another limit for the counters that match."""

    match: Match
    limit: int


@dataclass(frozen=True, slots=True)
class Quota:
    """A named limit. It counts apart for each value of what stands in ``per``.

    ``weights`` says how many tokens of the limit one token of a kind, or one request, takes;
    what is left out weighs as in DEFAULT_WEIGHTS. ``thresholds`` None: those of the scopes.
    Raises ValueError for values that cannot be counted with.
    """

    name: str
    match: Match
    limit: int
    window: Window
    per: tuple[Dimension, ...] = ()
    overrides: tuple[Override, ...] = ()
    weights: Mapping[Weighed, Decimal] = field(default_factory=dict, hash=False)
    thresholds: tuple[float, ...] | None = None
    notify: tuple[Audience, ...] = ("owner", "operators")
    # The weights as whole numbers, in units of 1 / _scale, of the kinds and then of a request;
    # None: every token is just one.
    _scaled: tuple[int, ...] | None = field(init=False, repr=False, compare=False)
    _scale: int = field(init=False, repr=False, compare=False)
    # Of user, provider and model: the value of all counters, None where it is the caller's.
    _shared: tuple[str | None, str | None, str | None] = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not all(0 < n <= BIGINT_MAX for n in (self.limit, *(o.limit for o in self.overrides))):
            raise ValueError(f"{self.name}: a limit must be from 1 to {BIGINT_MAX}")
        if not set(self.per) <= set(DIMENSIONS):
            raise ValueError(f"{self.name}: counts per {', '.join(DIMENSIONS)} only")
        if not self.weights.keys() <= DEFAULT_WEIGHTS.keys():
            raise ValueError(f"{self.name}: a weight is of {', '.join(DEFAULT_WEIGHTS)} only")
        if not all(weight.is_finite() and weight >= 0 for weight in self.weights.values()):
            raise ValueError(f"{self.name}: a weight must be 0 or more")
        weights = MappingProxyType({**DEFAULT_WEIGHTS, **self.weights})
        ratios = {kind: weight.as_integer_ratio() for kind, weight in weights.items()}
        scale = math.lcm(*(below for _, below in ratios.values()))
        scaled = tuple(
            above * scale // below for above, below in (ratios[kind] for kind in get_args(Weighed))
        )
        plain = weights == DEFAULT_WEIGHTS
        shared = (
            None if "user" in self.per else self.match.only("user") or NOBODY,
            None if "provider" in self.per else self.match.only("provider") or SHARED,
            None if "model" in self.per else self.match.only("model") or SHARED,
        )
        object.__setattr__(self, "per", tuple(d for d in DIMENSIONS if d in self.per))
        object.__setattr__(self, "_shared", shared)
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "_scale", scale)
        object.__setattr__(self, "_scaled", None if plain else scaled)

    def applies(self, provider: str, model: str, user: str) -> bool:
        """Whether an event of this caller counts here."""
        return self.match.matches(provider=provider, model=model, user=user, quota=self.name)

    def subject(self, provider: str, model: str, user: str) -> tuple[str, str, str]:
        """(user, provider, model) of the counter that an event of this caller goes to.

        What the quota does not count per is the one value that it matches, else NOBODY or
        SHARED: these are columns of a key, so they are never null, and a provider and a model
        have at least one character.
        """
        to_user, to_provider, to_model = self._shared
        return (
            user if to_user is None else to_user,
            provider if to_provider is None else to_provider,
            model if to_model is None else to_model,
        )

    def limit_for(self, provider: str, model: str, user: str) -> int:
        """The limit of the counter of this caller: that of the first override that matches.

        Overrides look at the counter, not at the caller: all who share it have one limit. An
        override for a user matches only where the quota counts per user.
        """
        if not self.overrides:
            return self.limit
        user, provider, model = self.subject(provider, model, user)
        for override in self.overrides:
            if override.match.matches(provider=provider, model=model, user=user, quota=self.name):
                return override.limit
        return self.limit

    def weigh(self, kinds: Kinds, requests: int = 1) -> int:
        """What one event takes of the limit: the weighted sum, rounded once.

        Exact for any numbers; halves go away from zero, as ``round(numeric)`` does in
        Postgres. Not bounded: the sum may be beyond a bigint.
        """
        if self._scaled is None:
            return sum(kinds)
        scale = self._scale
        total: int = sum(map(operator.mul, (*kinds, requests), self._scaled))
        rounded = (abs(total) + scale // 2) // scale
        return rounded if total >= 0 else -rounded

    def period_of(self, at: datetime) -> Period:
        """The period that the moment ``at`` (with a zone) counts in."""
        return self.window.period_of(at)

    def definition(self) -> dict[str, Any]:
        """What decides how events are counted, as JSON values.

        Equal for quotas that count alike, however they were written down. Limits, thresholds
        and recipients are not in it: they change what a count means, not the count.
        """
        return {
            "match": {key: list(found) for key, found in self.match.restrictions.items()},
            "per": list(self.per),
            "weights": {kind: _digits(weight) for kind, weight in self.weights.items()},
            "window": _window(self.window),
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the definition: another one means that usage must be recounted."""
        text = json.dumps(self.definition(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def quota_of(
    *,
    name: str,
    match: Mapping[str, Patterns],
    limit: int,
    window: str,
    per: Iterable[Dimension] = (),
    overrides: Iterable[tuple[Mapping[str, Patterns], int]] = (),
    anchor: datetime | None = None,
    timezone: str = "UTC",
    weights: Mapping[Weighed, Decimal] = DEFAULT_WEIGHTS,
    thresholds: tuple[float, ...] | None = None,
    notify: tuple[Audience, ...] = ("owner", "operators"),
) -> Quota:
    """The quota that the plain values of a configuration mean; ValueError if they mean none."""
    return Quota(
        name=name,
        match=Match(**match),
        limit=limit,
        window=parse_window(window, ZoneInfo(timezone), anchor or EPOCH),
        per=tuple(per),
        overrides=tuple(Override(Match(**of), to) for of, to in overrides),
        weights=weights,
        thresholds=thresholds,
        notify=notify,
    )


class Charge(NamedTuple):
    """What one event adds to one counter of one quota; ``amount`` may be 0."""

    quota: str
    user_id: str
    provider: str
    model: str
    period_start: datetime
    period_end: datetime
    amount: int
    limit: int


_Counter = tuple[Quota, "_Periods", str, str, str, str, int]
"""Where events go in a quota: the quota, periods, name, user, provider, model, limit."""


class QuotaBook:
    """All quotas, and what each event adds to their counters.

    It remembers for the latest callers where their events go, and the latest periods of each
    window; both are bounded. Not for several threads.
    """

    def __init__(self, quotas: Iterable[Quota], *, remembered: int = REMEMBERED_CALLERS) -> None:
        """``remembered``: how many callers at most. ValueError if two quotas share a name."""
        self.quotas = tuple(quotas)
        self._by_name = {quota.name: quota for quota in self.quotas}
        if len(self._by_name) < len(self.quotas):
            raise ValueError("two quotas have the same name")
        windows = {quota.window for quota in self.quotas}
        self._periods = {window: _Periods(window) for window in windows}
        self._remembered = remembered
        self._counters: OrderedDict[Caller, tuple[_Counter, ...]] = OrderedDict()

    def charges(
        self,
        provider: str,
        model: str,
        user: str,
        kinds: Kinds,
        at: datetime,
        requests: int = 1,
    ) -> list[Charge]:
        """One charge for every quota that applies, in the order of the quotas.

        ``at`` is the time that the event counts for, with a zone; UTC is fastest.
        """
        caller = (provider, model, user)
        counters = self._counters.get(caller)
        if counters is None:
            counters = self._remember(caller)
        else:
            self._counters.move_to_end(caller)
        charges = []
        for quota, periods, name, to_user, to_provider, to_model, limit in counters:
            start, end = periods.at(at)
            amount = quota.weigh(kinds, requests)
            charges.append(Charge(name, to_user, to_provider, to_model, start, end, amount, limit))
        return charges

    def period(self, name: str, at: datetime) -> Period:
        """The period of a quota that ``at`` counts in; LookupError if there is no such quota."""
        return self._periods[self._by_name[name].window].at(at)

    def __getitem__(self, name: str) -> Quota:
        """The quota of this name; LookupError."""
        return self._by_name[name]

    def _remember(self, caller: Caller) -> tuple[_Counter, ...]:
        counters = tuple(
            (q, self._periods[q.window], q.name, *q.subject(*caller), q.limit_for(*caller))
            for q in self.quotas
            if q.applies(*caller)
        )
        self._counters[caller] = counters
        if len(self._counters) > self._remembered:
            self._counters.popitem(last=False)
        return counters


class _Periods:
    """The periods of a window; those that were asked for are kept, because working one out
    from the rules of a zone takes longer than all the rest of a charge."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._last = Period(EPOCH, EPOCH)
        self._starts: list[datetime] = []  # ascending, of _known
        self._known: list[Period] = []

    def at(self, moment: datetime) -> Period:
        if not self._last.start <= moment < self._last.end:
            self._last = self._find(moment)
        return self._last

    def _find(self, moment: datetime) -> Period:
        after = bisect_right(self._starts, moment)
        if after and moment < self._known[after - 1].end:
            return self._known[after - 1]
        period = self._window.period_of(moment)
        if len(self._known) >= REMEMBERED_PERIODS:
            self._starts.clear()
            self._known.clear()
        self._starts.insert(after, period.start)
        self._known.insert(after, period)
        return period


def _digits(weight: Decimal) -> str:
    """All digits of a decimal and no more: 1.50 is 1.5, 1E+3 is 1000."""
    text = f"{abs(weight):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _window(window: Window) -> dict[str, str | int]:
    if isinstance(window, CalendarWindow):
        return {"unit": window.unit, "zone": window.zone.key}
    start = window.period_of(EPOCH).start  # anchors a whole number of blocks apart mean the same
    return {"hours": window.hours, "anchor": start.isoformat()}
