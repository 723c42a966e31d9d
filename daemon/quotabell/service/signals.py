"""One signal a source: spans, log records and metrics of a program describe the same calls."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from time import monotonic
from typing import NamedTuple

from quotabell.domain.events import UsageEvent
from quotabell.formats.names import SIGNALS, Signal
from quotabell.store.signals import Choice, SignalStore

KNOWN_FOR = 60.0  # seconds that a choice is remembered; another replica may make a better one
_REMEMBERED = 10_000

METRICS_RANK, ID_RANK, BEST_RANK = 0, 1, 2


class Selected(NamedTuple):
    """The events of a source that count, and by which other signal the rest is counted."""

    events: list[UsageEvent]
    instead: str | None


class Signals:
    """Metrics count until something with ids is seen: spans or log records.

    These have users and repeat without harm. Of the two the first stays, unless a table says
    that the instrumentation tells more by the other one. What metrics have counted up to the
    change is not counted again.
    """

    def __init__(self, store: SignalStore, overrides: Mapping[str, Signal]) -> None:
        self._store = store
        self._overrides = dict(overrides)
        self._known: OrderedDict[str, tuple[Choice, float]] = OrderedDict()

    def replace(self, overrides: Mapping[str, Signal]) -> None:
        """Take other overrides into use: signals by patterns for sources."""
        self._overrides = dict(overrides)

    async def select(
        self, source: str, events: list[UsageEvent], signal: Signal, scopes: Collection[str]
    ) -> Selected:
        """Which events of one source count that came by ``signal``. Raises Unavailable."""
        for pattern, chosen in self._overrides.items():
            if fnmatchcase(source, pattern):
                return Selected(events, None) if chosen == signal else Selected([], chosen)
        choice = await self._choice(source, events, signal, rank(signal, scopes))
        if choice is None:
            return Selected([], "traces") if signal == "metrics" else Selected(events, None)
        if choice.signal != signal:
            return Selected([], choice.signal)
        until = choice.metrics_until
        if signal == "metrics" or until is None:
            return Selected(events, None)
        later = [event for event in events if event.time is None or event.time > until]
        return Selected(later, None if later else "metrics")

    async def _choice(
        self, source: str, events: list[UsageEvent], signal: Signal, ranked: int
    ) -> Choice | None:
        known = self._remembered(source)
        if known is not None and known.rank >= max(ranked, ID_RANK):
            return known
        until = _latest(events) if signal == "metrics" else None
        choice = await self._store.choose(source, signal, ranked, until)
        if choice is not None:
            self._known[source] = (choice, monotonic())
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return choice

    def _remembered(self, source: str) -> Choice | None:
        choice, since = self._known.get(source, (None, 0.0))
        return choice if monotonic() - since < KNOWN_FOR else None


def rank(signal: Signal, scopes: Iterable[str]) -> int:
    """How much a signal tells, if it comes from these instrumentations."""
    if signal == "metrics":
        return METRICS_RANK
    best = any(
        scope.startswith(beginning) and told == signal
        for scope in scopes
        for beginning, told in SIGNALS.items()
    )
    return BEST_RANK if best else ID_RANK


def _latest(events: Iterable[UsageEvent]) -> datetime | None:
    return max((event.time for event in events if event.time is not None), default=None)
