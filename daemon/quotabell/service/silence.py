"""When a silence is over: what it kept back and still fires is told, once."""

from __future__ import annotations

from datetime import timedelta
from time import monotonic

from quotabell.log import Logger
from quotabell.service.ring import RING_BATCH, SHARE
from quotabell.store.silences import SilenceStore

_AGED = 1_000


class Silencer:
    """A step of the rounds."""

    def __init__(self, store: SilenceStore, log: Logger, *, keep: timedelta) -> None:
        """``keep``: for how long silences that ended are kept."""
        self._store = store
        self._log = log
        self._keep = keep

    async def end(self) -> bool:
        """Announce what is not silenced any more; whether the time was too short."""
        await self._store.age(self._keep, _AGED)
        until = monotonic() + SHARE
        while rung := await self._store.ring(RING_BATCH):
            self._log.info("alerts told after a silence", alerts=rung)
            if rung < RING_BATCH:
                return False
            if monotonic() > until:
                return True
        return False
