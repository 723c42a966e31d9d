"""Once a minute: what is used of each quota state that changes or burns."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from time import monotonic
from uuid import UUID

from quotabell.service.ring import SHARE
from quotabell.store.samples import FIRST, SampleStore

EVERY = 60.0  # seconds
BATCH = 5_000


class Sampler:
    """A step of the rounds. ``burn_window``: over which the burn is measured."""

    def __init__(self, store: SampleStore, *, burn_window: timedelta, every: float = EVERY) -> None:
        self._store = store
        self._window = burn_window
        self._every = every
        # What another replica has sampled lately is not sampled again.
        self._pause = timedelta(seconds=every * 0.8)
        self._due = monotonic()
        self._after: UUID | None = None  # goes on here; None: waits for the next time
        self._late: set[UUID] = set()

    def note_late(self, states: Iterable[str]) -> None:
        """These states were just given what was used long ago."""
        self._late.update(map(UUID, states))

    async def restart_late(self) -> None:
        """Measure their burn anew; a step of every replica's rounds."""
        if self._late:
            late, self._late = self._late, set()
            await self._store.restart(late)

    async def sample(self) -> bool:
        """Sample if it is time; whether the time of the round was too short."""
        if self._after is None:
            if monotonic() < self._due:
                return False
            self._due = monotonic() + self._every
            await self._store.sweep()
            self._after = FIRST
        until = monotonic() + SHARE
        while monotonic() < until:
            taken = await self._store.take(
                self._window, pause=self._pause, after=self._after, limit=BATCH
            )
            if taken.samples < BATCH or taken.last is None:
                self._after = None
                return False
            self._after = taken.last
        return True
