"""What is kept and for how long: partitions, and rows of the history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from time import monotonic

from quotabell.log import Logger
from quotabell.store.aging import AgingStore
from quotabell.store.partitions import Partitions, days_to_keep
from quotabell.store.periods import PeriodStore

BATCH = 1_000
MAX_BATCHES = 10  # of one round
ARCHIVE_EVERY = 60.0  # seconds; it looks at every state
KEEP_ENDED = timedelta(days=30)  # subscriptions that are not active


class Retention:
    """Partitions exist from the oldest day that is retained to three days ahead."""

    def __init__(
        self,
        partitions: Sequence[tuple[Partitions, timedelta]],
        aging: AgingStore,
        periods: PeriodStore,
        log: Logger,
        *,
        keep_history: timedelta,
        keep_periods: timedelta,
        now: Callable[[], datetime],
    ) -> None:
        """``partitions``: each with how long its rows are kept."""
        self._partitions = partitions
        self._aging = aging
        self._log = log
        self._periods = periods
        self._keep_history = keep_history
        self._keep_periods = keep_periods
        self._now = now
        self._next_archive = 0.0

    async def make_parts(self) -> None:
        """Make the partitions that are missing; at every start and round. Raises Unavailable."""
        for partitions, retention in self._partitions:
            first, last = days_to_keep(self._now(), retention)
            if made := await partitions.keep(first, last):
                self._log.info("partitions made", table=partitions.table, number=made)

    async def keep_parts(self) -> None:
        """Make partitions ahead and drop those whose time is over."""
        await self.make_parts()
        for partitions, retention in self._partitions:
            first, _ = days_to_keep(self._now(), retention)
            if dropped := await partitions.drop_before(first):
                self._log.info("partitions dropped", names=dropped)

    async def archive(self) -> bool:
        """Move states of periods before the last one out of the way; whether more are left."""
        if monotonic() < self._next_archive:
            return False
        oldest = self._now() - self._keep_periods
        for _ in range(MAX_BATCHES):
            if await self._periods.archive(BATCH, oldest) < BATCH:
                self._next_archive = monotonic() + ARCHIVE_EVERY
                return False
        return True

    async def age_out(self) -> bool:
        """Delete old history and ended subscriptions, some at a time; whether more are left."""
        await self._aging.subscriptions(KEEP_ENDED, BATCH)
        for _ in range(MAX_BATCHES):
            if await self._aging.history(self._keep_history, BATCH) < BATCH:
                return False
        return True
