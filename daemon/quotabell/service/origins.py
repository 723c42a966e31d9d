"""What shares one fate: how much is under way to each origin, and which are to be left alone."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import NamedTuple

from quotabell.domain.outcome import Fault, Outcome

PER_ORIGIN = 100  # sends at once; Apple refuses more unanswered requests
CLAIMED = 2 * PER_ORIGIN  # of an origin at once, so that the next are there when these are sent
IN_ALL = 1_000  # claimed at once
DOUBTFUL = 300  # of all that have not answered lately together, and at most one batch more
PROBES = 20  # of one of these once the others have many, and of any where the places run out
RESERVED = 200  # the places that are only for origins with less than that
_REMEMBERED = 256  # origins that answered
_SILENT = 20  # sends in a row without an answer, after which an origin is left alone
_SILENT_PAUSE = 30.0  # seconds
_SILENT_FOR = 600.0  # seconds after which earlier silence tells nothing any more
_SILENT_KEPT = 10_000  # origins
_PAUSES_KEPT = 1_000
_FAULTS = frozenset(fault.value for fault in Fault)


class _Silence(NamedTuple):
    sends: int
    at: float  # monotonic


class Origins:
    """One replica's view of them; their pauses are shared through the database.

    What this replica was told it also keeps in mind: the database may be away.

    An origin that hangs keeps what is sent there for seconds. So that such origins, however
    many they are, never have all the places: those that have not answered lately get few, and
    the last places are only for origins that have few.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.claimed: Counter[str] = Counter()
        self._clock = clock
        self._pauses: OrderedDict[str, float] = OrderedDict()  # until when (monotonic)
        self._answering: OrderedDict[str, None] = OrderedDict()
        self._full: dict[str, int] = {}  # what must be left of it before asking for more
        self._all_full = self._doubtful_full = False
        self._silent: OrderedDict[str, _Silence] = OrderedDict()

    @property
    def room(self) -> int:
        """How many more may be claimed."""
        return IN_ALL - self.claimed.total()

    def taken(self) -> tuple[Mapping[str, int], int]:
        """What is taken of the CLAIMED places of known origins, and what others may have."""
        probes = self._probes
        many = CLAIMED if self.room > RESERVED else PROBES
        caps = {o: many if o in self._answering else probes for o in self.claimed}
        caps |= dict.fromkeys(self._answering, many)
        caps |= dict.fromkeys(filter(self.waits, list(self._pauses)), 0)
        return {o: CLAIMED - max(0, cap - self.claimed[o]) for o, cap in caps.items()}, probes

    @property
    def _probes(self) -> int:
        """How many may be claimed of an origin that has not answered lately."""
        doubtful = self._doubtful
        if doubtful + PER_ORIGIN <= DOUBTFUL:
            return PER_ORIGIN
        return PROBES if doubtful < DOUBTFUL else 0

    @property
    def _doubtful(self) -> int:
        return sum(n for o, n in self.claimed.items() if o not in self._answering)

    def begin(self, origins: Sequence[str]) -> None:
        """So many more are claimed, one for each mention.

        Where they filled up an origin, or all, more may be waiting.
        """
        begun = Counter(origins)
        self.claimed += begun
        for origin in begun:
            if self.claimed[origin] >= (CLAIMED if origin in self._answering else PROBES):
                self._full[origin] = self.claimed[origin] // 2
        self._all_full = self._all_full or self.room <= RESERVED
        self._doubtful_full = self._doubtful_full or self._doubtful >= DOUBTFUL

    def waits(self, origin: str) -> float:
        """Seconds for which nothing is to be sent there; 0: send."""
        until = self._pauses.get(origin)
        if until is None:
            return 0.0
        if (left := until - self._clock()) > 0:
            return left
        del self._pauses[origin]
        return 0.0

    def end(self, origin: str) -> bool:
        """One of the claimed is done with; whether it is time to ask for many more."""
        self.claimed[origin] -= 1
        left = self.claimed[origin]
        if not left:
            del self.claimed[origin]
        again = False
        if left <= self._full.get(origin, -1):
            del self._full[origin]
            again = True
        if self._all_full and self.room >= RESERVED + PER_ORIGIN:
            self._all_full = False
            again = True
        if self._doubtful_full and self._doubtful <= DOUBTFUL - PROBES:
            self._doubtful_full = False
            again = True
        return again

    def pause(self, origin: str, outcome: Outcome, delay: float) -> float:
        """Seconds for which nothing more is to be sent to the origin; 0: go on.

        ``delay``: seconds until the same delivery is tried again.
        """
        pause = 0.0
        if outcome.kind == "retry" and outcome.code in _FAULTS:
            pause = _SILENT_PAUSE if self._silence(origin) >= _SILENT else 0.0
        elif not outcome.reason.startswith("internal"):
            self._answered(origin)
            pause = delay if outcome.origin_pause else 0.0
        if pause > self.waits(origin):
            self._pauses[origin] = self._clock() + pause
            if len(self._pauses) > _PAUSES_KEPT:
                self._pauses.popitem(last=False)
        return pause

    def _silence(self, origin: str) -> int:
        """How many sends in a row got no answer, this one included."""
        now = self._clock()
        before = self._silent.pop(origin, _Silence(0, now))
        sends = 1 + (before.sends if now - before.at < _SILENT_FOR else 0)
        self._silent[origin] = _Silence(sends, now)
        while len(self._silent) > _SILENT_KEPT:
            self._silent.popitem(last=False)
        if sends >= _SILENT:
            self._answering.pop(origin, None)
        return sends

    def _answered(self, origin: str) -> None:
        self._silent.pop(origin, None)
        if origin in self._full and origin not in self._answering:
            self._full[origin] = CLAIMED  # ask for more as soon as this one is done
        self._answering[origin] = None
        self._answering.move_to_end(origin)
        if len(self._answering) > _REMEMBERED:
            self._answering.popitem(last=False)
