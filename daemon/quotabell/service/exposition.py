"""The usage part of ``/metrics``: held in memory, patched by commits, refreshed meanwhile.

Reading a large table takes longer than a scrape may, so a scrape only joins lines that are
ready. What this replica commits shows at once; what others do, within one refresh.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

from quotabell.domain import exposition
from quotabell.domain.exposition import (
    ALERT_FAMILIES,
    BURN_FAMILIES,
    SOURCE_FAMILIES,
    Exposed,
    Labelled,
)
from quotabell.domain.folding import Summand
from quotabell.errors import QuotabellError
from quotabell.log import Logger
from quotabell.service.chunks import Chunk
from quotabell.service.fold import Fold
from quotabell.service.parts import Part
from quotabell.service.tables import QuotaTable, StateTable, SumTable, Table, name_of
from quotabell.store.events import Counted, EventStore
from quotabell.store.levels import AlertLevelStore, Firing
from quotabell.store.samples import Burning, SampleStore
from quotabell.store.sources import ListedSource, SourceStore
from quotabell.store.states import Removed
from quotabell.store.usage import UsageStore

REFRESH_EVERY = 0.5  # seconds, at least; and never more than a fifth of the time
SCRAPED_WITHIN = 60.0  # refreshing goes on this long after a scrape
_STALE_AFTER = 30.0  # seconds without a refresh: older figures would look like sums that fell
_WAIT = 5.0  # of the 10 that Prometheus waits for
_FOLDS = 3  # of one refresh: what is folded gives a few series, too


def state_name(state: Labelled) -> str:
    """What tells a quota state from others."""
    return name_of(state)


def alert_name(alert: Firing) -> str:
    """What tells an alert from others; not its id: that of the last period may still be ending."""
    return name_of(alert, alert.kind)


def source_table() -> Table[ListedSource]:
    """The sources, of which there are no more than the daemon admits."""
    return Table(
        SOURCE_FAMILIES,
        lambda source: (source.name,),
        lambda source: exposition.source_lines(
            source.name, source.last_event_at, source.stale_since is not None
        ),
    )


class UsageExposition:
    """`render` gives the text, the parts' `patch` takes rows of a commit, `run` refreshes."""

    def __init__(
        self,
        usage: UsageStore,
        events: EventStore,
        samples: SampleStore,
        sources: SourceStore,
        levels: AlertLevelStore,
        fold: Fold,
        log: Logger,
    ) -> None:
        self._usage = usage
        self._events = events
        self._samples = samples
        self._source_store = sources
        self._levels = levels
        self._fold = fold
        self._log = log
        self.states: Part[Exposed] = Part(
            lambda: StateTable(state_name, fold.folding), lambda: fold.folding
        )
        self.sums: Part[Summand] = Part(lambda: SumTable(fold.folding), lambda: fold.folding)
        self._burns: Part[Burning] = Part(
            lambda: QuotaTable(BURN_FAMILIES, state_name, exposition.burn_lines, fold.folding),
            lambda: fold.folding,
        )
        self._alerts: Part[Firing] = Part(
            lambda: QuotaTable(ALERT_FAMILIES, alert_name, exposition.alert_lines, fold.folding),
            lambda: fold.folding,
        )
        self._sources = Part(source_table)
        self._scraped = -SCRAPED_WITHIN
        self._wanted = asyncio.Event()
        self._fresh = asyncio.Event()  # what is held was read lately
        self._refreshed = asyncio.Event()
        self._hurry = asyncio.Event()
        self._at_least = 0  # series that no folding makes fewer
        self._headings: dict[str, Chunk] = {}

    def show(self, counted: Counted) -> None:
        """Show what a commit of usage events changed."""
        self.sums.patch(counted.totals)
        self.states.patch(counted.states)

    def forget(self, state: Removed) -> None:
        """Show a quota state no more that was removed; a refresh brings back the present period
        if it was of another."""
        self.states.forget(state_name(state))
        self._burns.forget(state_name(state))

    async def render(self, openmetrics: bool = False) -> list[Chunk]:
        """The usage families in chunks; the first scrape after a pause waits for one refresh,
        bounded. Nothing where none succeeds: another replica may have shown newer sums.
        OpenMetrics' last line is not among them."""
        now = monotonic()
        idle, self._scraped = now - self._scraped > SCRAPED_WITHIN, now
        if idle:
            self._fresh.clear()
        self._wanted.set()
        until = asyncio.get_running_loop().time() + _WAIT
        await _wait(self._fresh, until)
        late = False
        while True:
            async with self._settled():
                if late or not self._too_many():
                    return self._content(openmetrics) if self._fresh.is_set() else []
            late = not await self._next_refresh(until)

    def at_once(self, openmetrics: bool = False) -> list[Chunk] | None:
        """The same without a wait, where there is nothing to wait for and little to render;
        else None."""
        now = monotonic()
        if now - self._scraped > SCRAPED_WITHIN or not self._fresh.is_set():
            return None
        if not all(part.small for part in self._parts()):
            return None
        if not (self.sums.catch_up_at_once() and self.states.catch_up_at_once()):
            return None
        if self._too_many():
            return None
        self._scraped = now
        self._wanted.set()
        return self._content(openmetrics)

    def _content(self, openmetrics: bool) -> list[Chunk]:
        content = [family for part in self._parts() for family in part.content()]
        return list(exposition.render(content, self._heading, openmetrics))

    def _heading(self, text: str) -> Chunk:
        """Always the same one of a text, of which there are two a family."""
        chunk = self._headings.get(text)
        if chunk is None:
            chunk = self._headings[text] = Chunk(text)
        return chunk

    def _too_many(self) -> bool:
        """Whether a refresh would fold users."""
        series = self._series()
        return self._fold.too_many(series) and series > self._at_least

    async def _next_refresh(self, until: float) -> bool:
        self._refreshed.clear()
        self._hurry.set()
        return await _wait(self._refreshed, until)

    @contextlib.asynccontextmanager
    async def _settled(self) -> AsyncIterator[None]:
        """All parts at once, so that none changes while another one is rendered."""
        async with contextlib.AsyncExitStack() as stack:
            for part in self._parts():
                await stack.enter_async_context(part.settled())
            yield

    def _series(self) -> int:
        return sum(part.series for part in self._parts())

    def _parts(self) -> tuple[Part[Any], ...]:
        return (self.sums, self.states, self._burns, self._alerts, self._sources)

    async def run(self) -> None:
        """Refresh for ever while somebody scrapes."""
        read = monotonic()
        while True:
            await self._wanted.wait()
            started = monotonic()
            if started - self._scraped > SCRAPED_WITHIN:
                self._wanted.clear()
                continue
            pause = REFRESH_EVERY
            self._hurry.clear()
            try:
                await self._refresh()
                pause, read = max(pause, 4 * (monotonic() - started)), started
            except QuotabellError as error:
                if started - read > _STALE_AFTER or not self._fresh.is_set():
                    self._fresh.clear()
                    self._log.warning("no usage in /metrics: it cannot be read", reason=str(error))
            await _wait(self._hurry, asyncio.get_running_loop().time() + pause)

    async def _refresh(self) -> None:
        await self._fold.follow()
        await self._read()
        for _ in range(_FOLDS):
            if not await self._fold_if_too_many():
                break
            await self._read()
        self._at_least = self._series()
        self._fresh.set()
        self._refreshed.set()

    async def _fold_if_too_many(self) -> bool:
        series = self._series()
        if not self._fold.too_many(series):
            return False
        owned: Counter[str] = Counter()
        for part in self._parts():
            await part.owned(owned)
        return await self._fold.fold(series, owned)

    async def _read(self) -> None:
        await self.sums.refresh(self._events.totals())
        await self.states.refresh(self._usage.current())
        await self._burns.refresh(self._samples.burning())
        await self._alerts.refresh(self._levels.firing())
        await self._sources.refresh(self._source_store.all())


async def _wait(event: asyncio.Event, until: float) -> bool:
    """Whether it came before this time of the event loop."""
    if event.is_set():  # without a timer
        return True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(until):
            await event.wait()
    return event.is_set()
