"""The usage part of ``/metrics``: held in memory, patched by commits, refreshed meanwhile.

Reading a large table takes longer than a scrape may, so a scrape only joins lines that are
ready. What this replica commits shows at once; what others do, within one refresh.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from time import monotonic

from quotabell.domain import exposition
from quotabell.domain.usage import StoredState
from quotabell.errors import QuotabellError
from quotabell.log import Logger
from quotabell.store.usage import UsageStore

REFRESH_EVERY = 0.5  # seconds, at least; and never more than a fifth of the time
SCRAPED_WITHIN = 60.0  # refreshing goes on this long after a scrape
_FIRST_WAIT = 2.0


class UsageExposition:
    """`render` gives the text, `patch` takes the rows of a commit, `run` keeps it fresh."""

    def __init__(self, store: UsageStore, log: Logger) -> None:
        self._store = store
        self._log = log
        self._columns = exposition.columns()
        self._patched: list[StoredState] | None = None
        self._scraped = -SCRAPED_WITHIN
        self._wanted = asyncio.Event()
        self._fresh = asyncio.Event()

    def patch(self, states: Sequence[StoredState]) -> None:
        """Show what a commit of this replica stored."""
        exposition.put(self._columns, states)
        if self._patched is not None:
            self._patched += states

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
        return "".join(exposition.render(self._columns)).encode()

    async def run(self) -> None:
        """Refresh for ever while somebody scrapes."""
        while True:
            await self._wanted.wait()
            started = monotonic()
            if started - self._scraped > SCRAPED_WITHIN:
                self._wanted.clear()
                continue
            with contextlib.suppress(QuotabellError):
                await self._refresh()
            took = monotonic() - started
            await asyncio.sleep(max(REFRESH_EVERY, 4 * took))

    async def _refresh(self) -> None:
        self._patched = []
        columns = exposition.columns()
        try:
            async for rows in self._store.current():
                exposition.put(columns, rows)
                await asyncio.sleep(0)  # others wait for the event loop
            # A commit may have overtaken the read, so what it patched meanwhile wins.
            exposition.put(columns, self._patched)
            self._columns = columns
        finally:
            self._patched = None
        self._fresh.set()
