"""The level under the edge: what a round of evaluation does about threshold alerts.

The trigger rings in the transaction of the usage. Whatever keeps it from doing so (it is
disabled, it failed, a row or a message was deleted, a threshold changed) is made good here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import islice
from time import monotonic
from uuid import UUID

from quotabell.log import Logger
from quotabell.metrics import Metrics
from quotabell.store.alerts import AlertStore

REARM_BATCH = 5_000
# Smaller: each row costs ten times as much, and writers wait for the rows of a batch.
RING_BATCH = 500
FAILED_KEPT = 10_000  # states that could not be rung, to be tried after all others
SHARE = 2.0  # seconds of a round that one step takes at most, so that the lease is renewed in time


class Ringer:
    """The steps of a round."""

    def __init__(self, store: AlertStore, metrics: Metrics, log: Logger) -> None:
        self._store = store
        self._metrics = metrics
        self._log = log
        self._failed: OrderedDict[UUID, None] = OrderedDict()  # tried longest ago first

    async def rearm(self) -> bool:
        """Compare states anew whose thresholds changed; whether the time was too short."""
        until = monotonic() + SHARE
        while (worked := await self._store.rearm(REARM_BATCH) is not None) and monotonic() < until:
            pass
        self._metrics.rearm_pending.set(await self._store.rearm_pending())
        return worked

    async def ring_due(self) -> bool:
        """Ring what crossed unseen; whether the time was too short.

        States that could not be rung lately come last, those first that were tried longest ago:
        however many they are, they keep no other from being rung.
        """
        until = monotonic() + SHARE
        tried: set[UUID] = set()  # of them, in this round
        others = True
        while monotonic() < until:
            again = [] if others else self._again(tried)
            if not others and not again:
                return False
            batch = await self._store.ring_due(RING_BATCH, self._failed.keys() - set(again))
            for state in again:
                self._failed.pop(state, None)
            self._note(batch.failed)
            tried.update(again, batch.failed)
            if others and (batch.due < RING_BATCH or not batch.tried):
                others = False
        return True

    def _again(self, tried: set[UUID]) -> list[UUID]:
        return list(islice((state for state in self._failed if state not in tried), RING_BATCH))

    def _note(self, failed: Sequence[UUID]) -> None:
        if not failed:
            return
        self._log.warning("states could not be rung", states=len(failed))
        self._failed.update(dict.fromkeys(failed))
        while len(self._failed) > FAILED_KEPT:
            self._failed.popitem(last=False)

    async def make_good(self) -> None:
        """Announce lost transitions again, end alerts of deleted states."""
        if found := await self._store.reannounce(RING_BATCH):
            self._log.warning("lost notifications were written again", notifications=found)
        await self._store.end_orphans(RING_BATCH)
