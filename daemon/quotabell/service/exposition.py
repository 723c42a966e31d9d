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
_AT_A_TIME = 1_000  # states: some 5 ms

States = dict[str, StoredState]
"""By id."""


class UsageExposition:
    """`render` gives the text, `patch` takes the rows of a commit, `run` keeps it fresh."""

    def __init__(self, store: UsageStore, log: Logger) -> None:
        self._store = store
        self._log = log
        self._columns = exposition.columns()
        self._committed: States = {}  # and not in the columns yet
        self._overtaking: States | None = None  # committed during a refresh
        self._catching_up = asyncio.Lock()
        self._scraped = -SCRAPED_WITHIN
        self._wanted = asyncio.Event()
        self._fresh = asyncio.Event()

    def patch(self, states: Sequence[StoredState]) -> None:
        """Show what a commit of this replica stored.

        Only noted here: many reports of a state between two scrapes cost one rendering.
        """
        changed = {state.id: state for state in states}
        self._committed |= changed
        if self._overtaking is not None:
            self._overtaking |= changed

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
        async with self._catching_up:
            committed, self._committed = self._committed, {}
            await self._put(committed)
        return "".join(exposition.render(self._columns)).encode()

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
        self._overtaking = {}
        columns = exposition.columns()
        try:
            async for rows in self._store.current():
                exposition.put(columns, rows)
                await asyncio.sleep(0)  # others wait for the event loop
            self._columns = columns
            # A commit may have overtaken the read, so it is shown once more.
            self._committed = self._overtaking | self._committed
        finally:
            self._overtaking = None
        self._fresh.set()

    async def _put(self, states: States) -> None:
        """Into the columns, some at a time."""
        waiting = list(states.values())
        for start in range(0, len(waiting), _AT_A_TIME):
            if start:
                await asyncio.sleep(0)  # others wait for the event loop
            exposition.put(self._columns, waiting[start : start + _AT_A_TIME])
