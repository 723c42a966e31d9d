"""What became of attempts, on its way into the database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple

from quotabell.errors import Conflict, Refused, Unavailable
from quotabell.log import Logger
from quotabell.metrics import Metrics
from quotabell.store.delivery import DeliveryStore, Told

_PAUSE = 0.25  # seconds between tries while the database is away


class Ended(NamedTuple):
    """An attempt that ended: ``seconds`` since the crossing."""

    told: Told
    channel: str
    seconds: float


class Acknowledger:
    """Records outcomes, all that wait at once, and counts those whose fence still held."""

    def __init__(
        self, store: DeliveryStore, metrics: Metrics, log: Logger, *, patience: float
    ) -> None:
        """``patience``: seconds after which an outcome is given up; its lease has run out."""
        self._store = store
        self._metrics = metrics
        self._log = log
        self._patience = patience
        self._waiting: list[Ended] = []
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def put(self, ended: Ended) -> None:
        """Have an outcome recorded soon."""
        self._waiting.append(ended)
        self._none.clear()
        self._some.set()

    async def run(self) -> None:
        """Record for ever."""
        while True:
            await self._some.wait()
            self._some.clear()
            while self._waiting:
                # Sorted, so that two replicas never lock the same rows in opposite orders.
                batch, self._waiting = sorted(self._waiting, key=lambda e: e.told.id), []
                await self._record(batch)
            self._none.set()

    async def drain(self, within: float) -> None:
        """Wait until nothing is left to record, at most ``within`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._none.wait()

    async def _record(self, batch: Sequence[Ended]) -> None:
        """Keep trying while the leases last; after that the attempts are `unknown`."""
        deadline = monotonic() + self._patience
        while monotonic() < deadline:
            try:
                held = await self._store.acknowledge([ended.told for ended in batch])
            except Conflict:
                continue
            except Unavailable as error:
                self._log.warning("outcomes not recorded yet", reason=str(error))
                await asyncio.sleep(_PAUSE)
                continue
            except Refused as error:
                await self._one_by_one(batch, error)
                return
            self._count(batch, held)
            return
        self._log.error("outcomes given up; they show as unknown", deliveries=len(batch))

    async def _one_by_one(self, batch: Sequence[Ended], error: Refused) -> None:
        """One outcome that the database will not have costs only itself."""
        if len(batch) == 1:
            self._log.error("an outcome is refused", delivery=batch[0].told.id, reason=str(error))
            return
        for ended in batch:
            await self._record([ended])

    def _count(self, batch: Sequence[Ended], held: set[int]) -> None:
        for told, channel, seconds in batch:
            if told.id not in held:
                continue
            self._metrics.deliveries.labels(channel, told.outcome).inc()
            if told.status == "sent":
                self._metrics.delivery_seconds.observe(seconds)
            elif told.status == "expired":
                self._metrics.deliveries.labels(channel, "expired").inc()
        if lost := len(batch) - len(held):
            self._log.warning("leases were lost before the answer came", deliveries=lost)
