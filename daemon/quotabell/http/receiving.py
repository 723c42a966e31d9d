"""What the receivers of other programs' reports have in common."""

from __future__ import annotations

import functools
from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from aiohttp import web
from prometheus_client import Counter

from quotabell.aside import aside
from quotabell.config import Ingest
from quotabell.domain.events import Outcome, UsageEvent
from quotabell.domain.usage import Snapshot
from quotabell.errors import FieldError, QuotabellError, Rejected, Unavailable
from quotabell.formats.names import Signal
from quotabell.formats.received import Received
from quotabell.http.auth import Caller
from quotabell.http.events import Counted, EventCommitter, by_item, commit
from quotabell.http.explained import RejectedItem
from quotabell.http.usage import SnapshotCommitter
from quotabell.metrics import Metrics
from quotabell.service.reading import Reading
from quotabell.service.signals import Signals
from quotabell.service.sources import Sources
from quotabell.store.sources import Source

FIELDS = frozenset({"provider", "model", "user", "time", "usage", "endTime", "litellm_call_id"})
"""Names that may be told of a fault; others may be of the sender's choice."""


@dataclass(slots=True)
class Current:
    """How reports are read now. A reload puts another reading into its place."""

    reading: Reading

    def one(self, name: str) -> str:
        """The name that somebody is counted under."""
        return self.reading.aliases.get(name, name)


class Result(msgspec.Struct):
    """What became of a body: its events after their commit, and what was refused."""

    tally: Mapping[Outcome, int]
    rejected: int
    errors: list[FieldError]  # of the first that were refused
    skipped: int  # items that tell of no tokens
    instead: list[str]  # by which other signals what is left out is counted


@dataclass(frozen=True, slots=True)
class Receivers:
    """Counts what receivers decoded. All of a daemon's receivers share one."""

    committer: EventCommitter
    snapshots: SnapshotCommitter
    signals: Signals
    sources: Sources
    metrics: Metrics
    ingest: Ingest
    current: Current
    retention: timedelta
    now: Callable[[], datetime]

    def oldest(self, now: datetime) -> datetime:
        """How far back events are taken."""
        return now - self.retention

    async def count(
        self, caller: Caller, kind: str, found: Received, signal: Signal | None = None
    ) -> Result:
        """Count events that came by ``kind``, each for its sender's user. Raises Unavailable."""
        own = await aside(
            len(found.events), lambda: [self._owned(event, caller) for event in found.events]
        )
        places = list(found.indices)
        instead: list[str] = []
        if signal is not None:
            chosen, instead = await self._select(own, found, signal, caller)
            places = [
                place for event, place in zip(own, places, strict=True) if id(event) in chosen
            ]
            own = [event for event in own if id(event) in chosen]
        outcomes, errors = await commit(self.committer, own, places, found.errors)
        source = Source(caller.name, caller.user or "", kind)
        for name, taken in Tally(event.source for event in own).items():
            named = name.removeprefix(f"{caller.name}/")
            self.sources.took(source._replace(source="" if named == kind else named), taken, signal)
        skipped = found.items - len(places) - found.rejected
        rejected = found.rejected + len(errors) - len(found.errors)
        self.sources.refused(source, rejected, Rejected(errors), FIELDS)
        return Result(Tally(outcomes), rejected, errors, skipped, instead)

    def failed(self, caller: Caller, kind: str, error: QuotabellError) -> None:
        """Note a request of which nothing counted."""
        if not isinstance(error, Unavailable):
            self.sources.refused(Source(caller.name, caller.user or "", kind), 1, error, FIELDS)

    def learn(self, caller: Caller, limits: Sequence[Snapshot]) -> None:
        """Store what providers said of their limits. It never costs the report anything."""
        if not limits:
            return
        user = caller.user or ""
        try:
            self.snapshots.submit([limit._replace(user_id=user) for limit in limits])
        except Unavailable:
            return  # the next answer tells it anew

    async def _select(
        self, own: list[UsageEvent], found: Received, signal: Signal, caller: Caller
    ) -> tuple[set[int], list[str]]:
        """Which events count: of each source those of one signal."""
        by_source: dict[str, list[UsageEvent]] = {}
        for event in own:
            by_source.setdefault(event.source, []).append(event)
        chosen: set[int] = set()
        instead = []
        for source, events in by_source.items():
            scopes = found.scopes.get(source.removeprefix(f"{caller.name}/"), set())
            selected = await self.signals.select(source, events, signal, scopes)
            chosen.update(map(id, selected.events))
            if selected.instead is not None:
                instead.append(selected.instead)
        return chosen, instead

    def _owned(self, event: UsageEvent, caller: Caller) -> UsageEvent:
        """The event with a source that nobody but its sender can name, for its sender's user."""
        user = caller.user if caller.user is not None else self.current.one(event.user_id)
        return event._replace(source=f"{caller.name}/{event.source}", user_id=user)


class Told:
    """The counters of one receiver, by sender."""

    def __init__(self, metrics: Metrics, receiver: str, senders: Sequence[str]) -> None:
        self.of: Callable[[str], dict[str, Counter]] = functools.cache(
            lambda name: metrics.event_outcomes(f"{name}/{receiver}")
        )
        for name in senders:
            self.of(name)

    def failed(self, sender: str, error: QuotabellError) -> None:
        """A request of which nothing counted."""
        outcome = "unavailable" if isinstance(error, Unavailable) else "rejected"
        self.of(sender)[outcome].inc()

    def counted(self, sender: str, result: Result) -> None:
        """A request that was counted."""
        counters = self.of(sender)
        counters["rejected"].inc(result.rejected)
        for outcome, events in result.tally.items():
            counters[outcome].inc(events)


class Receipt(Counted):
    """What became of the items. ``skipped`` ones tell of no tokens of a provider: failures,
    answers from a cache, usage that is not known."""

    skipped: int


def receipt(result: Result) -> web.Response:
    """The answer to a body; raises Rejected if all of it was refused."""
    tally = result.tally
    if result.errors and not tally and not result.skipped:
        raise Rejected(result.errors)
    rejected: list[RejectedItem] = by_item(result.errors)
    answer = Receipt(
        tally.get(Outcome.ACCEPTED, 0),
        tally.get(Outcome.DUPLICATE, 0),
        tally.get(Outcome.CORRECTED, 0),
        rejected,
        result.skipped,
    )
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")
