"""The daily partitions of usage events: made ahead, dropped when their time is over."""

from __future__ import annotations

from datetime import timedelta

from quotabell.log import Logger
from quotabell.store.events import EventStore, days_to_keep


class Partitions:
    """Keeps every day from the oldest that is retained to three days ahead."""

    def __init__(self, store: EventStore, retention: timedelta, log: Logger) -> None:
        self._store = store
        self._retention = retention
        self._log = log

    async def make(self) -> None:
        """Make what is missing; at every start and round. Raises Unavailable."""
        first, last = days_to_keep(self._store.database.clock.now(), self._retention)
        if made := await self._store.keep_days(first, last):
            self._log.info("partitions made", days=made)

    async def keep(self) -> None:
        """Make what is missing and drop what is over."""
        await self.make()
        first, _ = days_to_keep(self._store.database.clock.now(), self._retention)
        if dropped := await self._store.drop_days_before(first):
            self._log.info("partitions dropped", names=dropped)
