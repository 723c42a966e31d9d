"""Who reports: counted in memory as requests come, written in the background."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection
from datetime import datetime

from quotabell.errors import QuotabellError, Refused, Rejected
from quotabell.log import Logger
from quotabell.store.sources import BOUND, OTHER, Count, Source, SourceStore

EVERY = 0.5  # seconds between two writes, at least
_FIELDS = 5  # named in the text of an error
_LAST_WRITE = 3.0  # seconds that the one at the end may take
_OTHER = Source(OTHER, "", "")


class Sources:
    """`took` and `refused` cost a look-up; `run` writes what they noted.

    Counts are lost if the daemon is killed, and kept while the database is away. Neither
    concerns the reports themselves.
    """

    def __init__(self, store: SourceStore, now: Callable[[], datetime], log: Logger) -> None:
        self._store = store
        self._now = now
        self._log = log
        self._counts: dict[Source, Count] = {}
        self._noted = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()

    def took(self, source: Source, events: int, signal: str | None = None) -> None:
        """So many events of a source were committed, or had been before, by this signal."""
        if events:
            now = self._now()
            self._note(source, Count(events, now, signal=signal, first_event_at=now))

    def refused(
        self, source: Source, items: int, error: QuotabellError, fields: Collection[str]
    ) -> None:
        """So many items of a source were refused; ``fields``: names that may be told."""
        if items:
            text = _told(error, fields)
            self._note(source, Count(0, None, items, self._now(), text))

    def _note(self, source: Source, new: Count) -> None:
        if source not in self._counts and len(self._counts) >= BOUND:
            source = _OTHER
        self._counts[source] = _sum(self._counts.get(source), new)
        self._noted.set()

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await self._noted.wait()
            try:
                await self.flush()
            except QuotabellError as error:
                self._log.warning("sources not written", reason=str(error))
            await asyncio.sleep(EVERY)

    async def flush(self) -> None:
        """Write what was noted; raises Unavailable, and keeps it for later."""
        async with self._one_at_a_time:
            counts, self._counts = self._counts, {}
            self._noted.clear()
            if not counts:
                return
            try:
                await self._store.add(counts)
            except Refused:
                raise  # it would be again
            except BaseException:
                later, self._counts = self._counts, counts
                for source, count in later.items():
                    self._note(source, count)
                self._noted.set()
                raise

    async def close(self) -> None:
        """Write what is left, in bounded time."""
        with contextlib.suppress(QuotabellError, TimeoutError):
            async with asyncio.timeout(_LAST_WRITE):
                await self.flush()


def _sum(old: Count | None, new: Count) -> Count:
    if old is None:
        return new
    return Count(
        old.events + new.events,
        new.last_event_at or old.last_event_at,
        old.rejected + new.rejected,
        new.last_rejected_at or old.last_rejected_at,
        new.last_error or old.last_error,
        new.signal or old.signal,
        old.first_event_at or new.first_event_at,
    )


def _told(error: QuotabellError, fields: Collection[str]) -> str:
    """What an error is about in the product's words; an error's own may quote its body."""
    text = (type(error).__doc__ or "").strip().splitlines()[0]
    if isinstance(error, Rejected):
        named = sorted({e.path for e in error.errors} & set(fields))[:_FIELDS]
        if named:
            return f"{text[:-1]}: {', '.join(named)}"
    return text
