"""Marks of series and signals of sources are kept as long as something of them comes."""

from __future__ import annotations

from datetime import timedelta
from time import monotonic

from quotabell.store.series import SeriesStore
from quotabell.store.signals import SignalStore

IDLE_SERIES = timedelta(days=2)  # one that comes back later is like one seen for the first time
IDLE_SOURCE = timedelta(days=35)
EVERY = 600.0  # seconds: looking for idle rows reads all of them


class Idle:
    """What nobody reports any more."""

    def __init__(self, series: SeriesStore, signals: SignalStore) -> None:
        self._series = series
        self._signals = signals
        self._looked = -EVERY

    async def forget(self) -> None:
        """Delete it; a step of the evaluator."""
        if monotonic() - self._looked >= EVERY:
            self._looked = monotonic()
            await self._series.forget(IDLE_SERIES)
            await self._signals.forget(IDLE_SOURCE)
