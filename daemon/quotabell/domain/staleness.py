"""When a source that reported regularly counts as stopped.

A source is judged by its own rhythm: the longest pause that it has made at least twice lately.
Once is no rhythm, else an outage of a source would hide its next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final

ROOM: Final = 1.5  # times the usual pause is still usual
STEADY: Final = 3  # times the allowed silence it must have reported without a longer one
OTHER: Final = "other"  # what is counted together follows nobody's rhythm
_GRACE: Final = timedelta(minutes=10)
_NEVER: Final = timedelta(0)


@dataclass(frozen=True, slots=True)
class Reporter:
    """A source as its reports have shown it, pauses without the time in which nobody listened.

    ``longest`` and ``second`` are its longest pauses of late (None: it made none), ``until``
    is when the longest ended.
    """

    name: str
    since: datetime  # its first report
    last: datetime
    longest: timedelta | None = None
    until: datetime | None = None
    second: timedelta | None = None

    @property
    def usual_pause(self) -> timedelta | None:
        """None: not known yet."""
        return self.second

    def allowed(self, after: timedelta) -> timedelta:
        """How long it may be silent, of which the operator said ``after``."""
        return max(after, (self.second or timedelta(0)) * ROOM)

    def regular(self, after: timedelta) -> bool:
        """Whether silence would mean anything: it kept to what is allowed for long enough."""
        if self.second is None:
            return False
        allowed = self.allowed(after)
        start = self.since
        # Only the longest can be longer than is allowed: the second is usual.
        if self.longest is not None and self.until is not None and self.longest > allowed:
            start = max(start, self.until)
        return self.last - start >= allowed * STEADY

    def overdue(self, after: timedelta, silence: timedelta, heard: timedelta) -> bool:
        """Whether it is silent for too long.

        ``silence``: since its last report, as far as it could be heard; ``heard``: the
        time since the last outage, which may have cost a report: a source has its usual pause
        again then, or ten minutes for clients that are slow to come back.
        """
        allowed = self.allowed(after)
        again = min(allowed, max((self.second or timedelta(0)) * ROOM, _GRACE))
        return silence > allowed and heard > again


@dataclass(frozen=True, slots=True)
class Watched:
    """Which sources are watched, and how long each may be silent; 0: for ever.

    ``overrides``: patterns for names, of which the first that matches counts.
    """

    after: timedelta = _NEVER
    overrides: Sequence[tuple[str, timedelta]] = ()

    def after_of(self, name: str) -> timedelta | None:
        """None: not watched."""
        if name == OTHER:
            return None
        for pattern, after in self.overrides:
            if fnmatchcase(name, pattern):
                return after or None
        return self.after or None

    @property
    def shortest(self) -> timedelta | None:
        """The shortest silence that can mean anything; None: nothing is watched."""
        return min((a for a in (self.after, *(a for _, a in self.overrides)) if a), default=None)
