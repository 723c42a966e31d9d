"""Marks of cumulative series are kept as long as their series are reported."""

from __future__ import annotations

from datetime import timedelta
from time import monotonic

from quotabell.store.series import SeriesStore

IDLE = timedelta(days=2)  # a series that comes back later is like one seen for the first time
EVERY = 600.0  # seconds: looking for idle marks reads all of them


class IdleSeries:
    def __init__(self, store: SeriesStore) -> None:
        self._store = store
        self._looked = -EVERY

    async def forget(self) -> None:
        """Delete marks that nobody moves any more; a step of the evaluator."""
        if monotonic() - self._looked >= EVERY:
            self._looked = monotonic()
            await self._store.forget(IDLE)
