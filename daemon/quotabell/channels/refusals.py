"""Push services that refuse a key, which are then left alone, but for one message at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from quotabell.domain.outcome import Outcome

BROWSERS: Final = 5  # that were refused one after the other, before it is the key's fault
PAUSE: Final = 60.0  # seconds
_PROBE: Final = 15.0  # seconds for which the others wait for one try; none takes longer than 10
_TRUSTED: Final = 600.0  # seconds for which a message that was taken speaks for the key
_KEPT: Final = 1_000  # pairs of origin and key


@dataclass(slots=True)
class _Standing:
    refused: set[int] = field(default_factory=set)  # browsers, since one was served
    taken: float | None = None  # when the last message was
    until: float | None = None  # left alone; None: not


class Refusals:
    """A breaker for each origin and key.

    A refusal may be one subscription's own, made with another key or by somebody who means
    harm. It is the key's only if several are refused and none was served lately.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._standings: OrderedDict[tuple[str, str], _Standing] = OrderedDict()

    def waits(self, origin: str, key: str) -> float:
        """Seconds for which nothing is to be sent there with the key; 0: send.

        After a pause one may send; the others wait for what comes of it.
        """
        standing = self._standings.get((origin, key))
        if standing is None or standing.until is None:
            return 0.0
        now = self._clock()
        if (left := standing.until - now) > 0:
            return left
        standing.until = now + _PROBE
        return 0.0

    def heard(self, origin: str, key: str, outcome: Outcome, browser: int) -> None:
        """What came of a message; ``browser`` tells them apart."""
        if outcome.kind != "sent" and outcome.code != "key_refused":
            return
        now = self._clock()
        standing = self._standings.setdefault((origin, key), _Standing())
        self._standings.move_to_end((origin, key))
        while len(self._standings) > _KEPT:
            self._standings.popitem(last=False)
        if outcome.kind == "sent":
            standing.refused.clear()
            standing.taken, standing.until = now, None
        elif standing.taken is None or now - standing.taken > _TRUSTED:
            if len(standing.refused) < BROWSERS:
                standing.refused.add(browser)
            if len(standing.refused) >= BROWSERS:
                standing.until = now + PAUSE
