"""What is kept and for how long: daily partitions of events, rows of the history."""

from __future__ import annotations

from datetime import timedelta

from quotabell.log import Logger
from quotabell.store.aging import AgingStore
from quotabell.store.events import EventStore, days_to_keep

BATCH = 1_000
MAX_BATCHES = 10  # of one round
KEEP_ENDED = timedelta(days=30)  # subscriptions that are not active


class Retention:
    """Partitions exist from the oldest day that is retained to three days ahead."""

    def __init__(
        self,
        events: EventStore,
        aging: AgingStore,
        log: Logger,
        *,
        keep_events: timedelta,
        keep_history: timedelta,
    ) -> None:
        self._events = events
        self._aging = aging
        self._log = log
        self._keep_events = keep_events
        self._keep_history = keep_history

    async def make_days(self) -> None:
        """Make the partitions that are missing; at every start and round. Raises Unavailable."""
        first, last = days_to_keep(self._events.database.clock.now(), self._keep_events)
        if made := await self._events.keep_days(first, last):
            self._log.info("partitions made", days=made)

    async def keep_days(self) -> None:
        """Make partitions ahead and drop those whose time is over."""
        await self.make_days()
        first, _ = days_to_keep(self._events.database.clock.now(), self._keep_events)
        if dropped := await self._events.drop_days_before(first):
            self._log.info("partitions dropped", names=dropped)

    async def age_out(self) -> bool:
        """Delete old history and ended subscriptions, some at a time; whether more are left."""
        await self._aging.subscriptions(KEEP_ENDED, BATCH)
        for _ in range(MAX_BATCHES):
            if await self._aging.history(self._keep_history, BATCH) < BATCH:
                return False
        return True
