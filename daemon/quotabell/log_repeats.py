"""Complaints that repeat: the first at once, then one line now and then that counts the others.

Whatever fails without end is tried again, some of it many times a second, and a log that tells of
every try hides the rest and fills disks.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

import structlog
from structlog.typing import EventDict, WrappedLogger

EVERY = 10.0  # seconds between lines of one complaint
KEYS = 1_000  # complaints remembered
_REASON = "reason"
_COUNT = "left_out"
_DIGITS = re.compile(r"[0-9]+")


@dataclass(slots=True)
class _Said:
    at: float  # monotonic seconds
    left_out: int = 0


class Repeats:
    """A processor of structlog that leaves out what was said less than ``every`` seconds ago.

    It looks at warnings with a ``reason`` only: those are tries that failed. Two are the same if
    nothing differs but numbers. The next one that is written says how many were ``left_out``
    before it; how many the last ones of a trouble were is not told. It stands after what makes
    values plain.
    """

    def __init__(self, every: float = EVERY, clock: Callable[[], float] = monotonic) -> None:
        self._every = every
        self._clock = clock
        self._said: dict[tuple[str, ...], _Said] = {}
        self._lock = threading.Lock()

    def __call__(self, _: WrappedLogger, method: str, event: EventDict) -> EventDict:
        if method != "warning" or _REASON not in event:
            return event
        key = tuple(_word(name, value) for name, value in event.items() if name != "time")
        with self._lock:
            now, said = self._clock(), self._said.get(key)
            if said is not None and now - said.at < self._every:
                said.left_out += 1
                raise structlog.DropEvent
            self._remember(key, now)
        return {**event, _COUNT: said.left_out} if said is not None and said.left_out else event

    def _remember(self, key: tuple[str, ...], now: float) -> None:
        """As the latest; the eldest is forgotten if there are too many."""
        self._said.pop(key, None)
        self._said[key] = _Said(now)
        if len(self._said) > KEYS:
            del self._said[next(iter(self._said))]


def _word(name: str, value: object) -> str:
    """Counts and numbers within reasons differ from try to try; other names tell things apart."""
    if isinstance(value, int | float):
        return name
    text = str(value)
    return f"{name}={_DIGITS.sub('', text) if name == _REASON else text}"
