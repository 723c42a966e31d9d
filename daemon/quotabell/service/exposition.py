"""The usage part of ``/metrics``: held in memory, patched by commits, refreshed meanwhile.

Reading a large table takes longer than a scrape may, so a scrape only joins lines that are
ready. What this replica commits shows at once; what others do, within one refresh.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
from time import monotonic
from typing import Generic, TypeVar

from quotabell.domain import exposition
from quotabell.domain.exposition import (
    ALERT_FAMILIES,
    BURN_FAMILIES,
    QUOTA_FAMILIES,
    SOURCE_FAMILIES,
    TOTAL_FAMILIES,
    Family,
    Lines,
)
from quotabell.domain.usage import StoredState
from quotabell.errors import QuotabellError
from quotabell.log import Logger
from quotabell.store.events import Counted, EventStore, Total
from quotabell.store.levels import AlertLevelStore, Firing
from quotabell.store.samples import Burning, SampleStore
from quotabell.store.sources import ListedSource, SourceStore
from quotabell.store.states import Removed
from quotabell.store.usage import CurrentState, UsageStore

REFRESH_EVERY = 0.5  # seconds, at least; and never more than a fifth of the time
SCRAPED_WITHIN = 60.0  # refreshing goes on this long after a scrape
_FIRST_WAIT = 2.0
_AT_A_TIME = 1_000  # rows: some 5 ms

Row = TypeVar("Row")


class Part(Generic[Row]):
    """The lines of the rows of one kind, by their key."""

    def __init__(
        self,
        families: Sequence[Family],
        key: Callable[[Row], Hashable],
        lines: Callable[[Row], Lines],
    ) -> None:
        self._families = families
        self._key = key
        self._lines = lines
        self._columns = exposition.columns(families)
        self._committed: dict[Hashable, Row] = {}  # and not in the columns yet
        self._overtaking: dict[Hashable, Row] | None = None  # committed during a refresh
        self._forgotten: set[Hashable] = set()  # during a refresh
        self._catching_up = asyncio.Lock()

    def patch(self, rows: Sequence[Row]) -> None:
        """Show what a commit of this replica stored.

        Only noted here: many reports of a row between two scrapes cost one rendering.
        """
        changed = {self._key(row): row for row in rows}
        self._committed |= changed
        if self._overtaking is not None:
            self._overtaking |= changed

    def forget(self, key: Hashable) -> None:
        """Show a row no more that was removed; a refresh under way has perhaps still read it."""
        self._committed.pop(key, None)
        for column in self._columns:
            column.pop(key, None)
        if self._overtaking is not None:
            self._overtaking.pop(key, None)
            self._forgotten.add(key)

    async def catch_up(self) -> None:
        """Bring what was committed into the columns, some rows at a time."""
        async with self._catching_up:
            committed, self._committed = self._committed, {}
            waiting = list(committed.values())
            for start in range(0, len(waiting), _AT_A_TIME):
                if start:
                    await asyncio.sleep(0)  # others wait for the event loop
                self._put(self._columns, waiting[start : start + _AT_A_TIME])

    async def refresh(self, read: AsyncIterator[Sequence[Row]]) -> None:
        """Replace all by what is read."""
        self._overtaking = {}
        self._forgotten.clear()
        columns = exposition.columns(self._families)
        try:
            async for rows in read:
                self._put(columns, rows)
                await asyncio.sleep(0)
            for key in self._forgotten:
                for column in columns:
                    column.pop(key, None)
            self._columns = columns
            # A commit may have overtaken the read, so it is shown once more. One from before is
            # in what was read, perhaps with what another replica committed later.
            self._committed = self._overtaking
        finally:
            self._overtaking = None

    def render(self) -> Iterator[str]:
        """The text in pieces."""
        return exposition.render(self._families, self._columns)

    def _put(self, into: exposition.Columns, rows: Sequence[Row]) -> None:
        for row in rows:
            exposition.put(into, self._key(row), self._lines(row))


def alert_name(alert: Firing) -> Hashable:
    """What tells an alert from others; not its id: that of the last period may still be ending."""
    return (alert.quota, alert.provider, alert.model, alert.user_id, alert.kind)


class UsageExposition:
    """`render` gives the text, the parts' `patch` takes rows of a commit, `run` refreshes."""

    def __init__(
        self,
        usage: UsageStore,
        events: EventStore,
        samples: SampleStore,
        sources: SourceStore,
        levels: AlertLevelStore,
        log: Logger,
    ) -> None:
        self._usage = usage
        self._events = events
        self._samples = samples
        self._source_store = sources
        self._levels = levels
        self._log = log
        self.states: Part[CurrentState | StoredState] = Part(
            QUOTA_FAMILIES,
            # Not their id: of two periods of one quota only the present one is shown.
            lambda state: (state.quota, state.provider, state.model, state.user_id),
            exposition.state_lines,
        )
        self.sums: Part[Total] = Part(
            TOTAL_FAMILIES,
            lambda total: (total.user_id, total.provider, total.model),
            exposition.sum_lines,
        )
        self._burns: Part[Burning] = Part(
            BURN_FAMILIES, lambda state: state.id, exposition.burn_lines
        )
        self._sources: Part[ListedSource] = Part(
            SOURCE_FAMILIES,
            lambda source: source.name,
            lambda source: exposition.source_lines(
                source.name, source.last_event_at, source.stale_since is not None
            ),
        )
        self._alerts: Part[Firing] = Part(ALERT_FAMILIES, alert_name, exposition.alert_lines)
        self._scraped = -SCRAPED_WITHIN
        self._wanted = asyncio.Event()
        self._fresh = asyncio.Event()

    def show(self, counted: Counted) -> None:
        """Show what a commit of usage events changed."""
        self.sums.patch(counted.totals)
        self.states.patch(counted.states)

    def forget(self, state: Removed) -> None:
        """Show a quota state no more that was removed; a refresh brings back the present period
        if it was of another."""
        self.states.forget((state.quota, state.provider, state.model, state.user_id))
        self._burns.forget(state.id)

    async def render(self) -> bytes:
        """The usage families; the first scrape after a pause waits for one refresh, bounded."""
        now = monotonic()
        idle, self._scraped = now - self._scraped > SCRAPED_WITHIN, now
        if idle:
            self._fresh.clear()
        self._wanted.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_WAIT):
                await self._fresh.wait()
        await self.sums.catch_up()
        await self.states.catch_up()
        parts = (self.sums, self.states, self._burns, self._alerts, self._sources)
        return "".join(text for part in parts for text in part.render()).encode()

    async def run(self) -> None:
        """Refresh for ever while somebody scrapes."""
        while True:
            await self._wanted.wait()
            started = monotonic()
            if started - self._scraped > SCRAPED_WITHIN:
                self._wanted.clear()
                continue
            pause = REFRESH_EVERY
            with contextlib.suppress(QuotabellError):
                await self._refresh()
                pause = max(pause, 4 * (monotonic() - started))
            await asyncio.sleep(pause)

    async def _refresh(self) -> None:
        await self.sums.refresh(self._events.totals())
        await self.states.refresh(self._usage.current())
        await self._burns.refresh(self._samples.burning())
        await self._alerts.refresh(self._levels.firing())
        await self._sources.refresh(self._source_store.all())
        self._fresh.set()
