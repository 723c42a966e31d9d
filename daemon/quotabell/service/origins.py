"""What shares one fate: how much is under way to each origin, and which are to be left alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from quotabell.domain.outcome import Fault, Outcome

PER_ORIGIN = 100  # sends at once; Apple refuses more unanswered requests
CLAIMED = 2 * PER_ORIGIN  # of an origin at once, so that the next are there when these are sent
IN_ALL = 1_000  # claimed at once
_SILENT = 20  # sends in a row without an answer, after which an origin is left alone
_SILENT_PAUSE = 30.0  # seconds
_FAULTS = frozenset(fault.value for fault in Fault)


class Origins:
    """One replica's view of them; their pauses are shared through the database."""

    def __init__(self) -> None:
        self.claimed: Counter[str] = Counter()
        self._slots: dict[str, asyncio.Semaphore] = {}
        self._full: set[str] = set()
        self._all_full = False
        self._silent: Counter[str] = Counter()

    @property
    def room(self) -> int:
        """How many more may be claimed."""
        return IN_ALL - self.claimed.total()

    def begin(self, origins: Sequence[str], before: Counter[str]) -> None:
        """So many more are claimed, one for each mention.

        ``before``: what was claimed when they were asked for. Where they filled up an origin,
        or all, more may be waiting.
        """
        begun = Counter(origins)
        self.claimed += begun
        self._full.update(o for o, count in begun.items() if before[o] + count >= CLAIMED)
        self._all_full = self._all_full or before.total() + len(origins) >= IN_ALL

    def slot(self, origin: str) -> asyncio.Semaphore:
        """What a send to the origin holds."""
        return self._slots.setdefault(origin, asyncio.Semaphore(PER_ORIGIN))

    def end(self, origin: str) -> bool:
        """One of the claimed is done with; whether it is time to ask for many more."""
        self.claimed[origin] -= 1
        left = self.claimed[origin]
        if not left:
            del self.claimed[origin], self._slots[origin]
        again = False
        if origin in self._full and left <= CLAIMED - PER_ORIGIN:
            self._full.discard(origin)
            again = True
        if self._all_full and self.room >= PER_ORIGIN:
            self._all_full = False
            again = True
        return again

    def pause(self, origin: str, outcome: Outcome, delay: float) -> float:
        """Seconds for which nothing more is to be sent to the origin; 0: go on.

        ``delay``: seconds until the same delivery is tried again.
        """
        if outcome.kind == "retry" and outcome.code in _FAULTS:
            self._silent[origin] += 1
            return _SILENT_PAUSE if self._silent[origin] >= _SILENT else 0.0
        self._silent.pop(origin, None)
        return delay if outcome.origin_pause else 0.0
