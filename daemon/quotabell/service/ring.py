"""The level under the edge: what a round of evaluation does about threshold alerts.

The trigger rings in the transaction of the usage. Whatever keeps it from doing so (it is
disabled, it failed, a row or a message was deleted, a threshold changed) is made good here.
"""

from __future__ import annotations

from time import monotonic

from quotabell.log import Logger
from quotabell.metrics import Metrics
from quotabell.store.alerts import AlertStore

REARM_BATCH = 5_000
# Smaller: each row costs ten times as much, and writers wait for the rows of a batch.
RING_BATCH = 500
SHARE = 2.0  # seconds of a round that one step takes at most, so that the lease is renewed in time


class Ringer:
    """The steps of a round."""

    def __init__(self, store: AlertStore, metrics: Metrics, log: Logger) -> None:
        self._store = store
        self._metrics = metrics
        self._log = log

    async def rearm(self) -> bool:
        """Compare states anew whose thresholds changed; whether the time was too short."""
        until = monotonic() + SHARE
        while (worked := await self._store.rearm(REARM_BATCH) is not None) and monotonic() < until:
            pass
        self._metrics.rearm_pending.set(await self._store.rearm_pending())
        return worked

    async def ring_due(self) -> bool:
        """Ring what crossed unseen; whether the time was too short."""
        until = monotonic() + SHARE
        while monotonic() < until:
            batch = await self._store.ring_due(RING_BATCH)
            if failed := batch.tried - batch.rung:
                self._log.warning("states could not be rung", states=failed)
            if batch.due < RING_BATCH or not batch.rung:
                return False
        return True

    async def make_good(self) -> None:
        """Announce lost transitions again, end alerts of deleted states."""
        if found := await self._store.reannounce(RING_BATCH):
            self._log.warning("lost notifications were written again", notifications=found)
        await self._store.end_orphans(RING_BATCH)
