"""What lasts is told again: alerts at the limit or beyond it, and forecasts."""

from __future__ import annotations

from time import monotonic

from quotabell.log import Logger
from quotabell.service.ring import RING_BATCH, SHARE
from quotabell.store.repeats import RepeatStore


class Repeater:
    """A step of the rounds."""

    def __init__(self, store: RepeatStore, log: Logger) -> None:
        self._store = store
        self._log = log

    async def repeat(self) -> bool:
        """Announce again what is due; whether the time was too short."""
        until = monotonic() + SHARE
        while told := await self._store.repeat(RING_BATCH):
            self._log.info("alerts told again", alerts=told)
            if told < RING_BATCH:
                return False
            if monotonic() > until:
                return True
        return False
