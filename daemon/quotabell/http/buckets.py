"""How often something may be asked for: a token bucket for each who asks."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from time import monotonic
from typing import NamedTuple

from quotabell.errors import QuotabellError

KEYS = 10_000  # who are remembered


class TooMany(QuotabellError):
    """You ask too often; repeat later."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds


class _Bucket(NamedTuple):
    left: float
    at: float  # monotonic


class Buckets:
    """So many a minute for each key, of which all may come at once. Per replica, in memory.

    Who has not asked for longest is forgotten first: it has the fullest bucket.
    """

    def __init__(
        self, a_minute: int, *, keys: int = KEYS, clock: Callable[[], float] = monotonic
    ) -> None:
        self._size = float(a_minute)
        self._every = 60.0 / a_minute
        self._keys = keys
        self._clock = clock
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def expect(self, key: Hashable) -> float:
        """What is left, at least one; raises TooMany. Counts nothing."""
        now = self._clock()
        bucket = self._buckets.get(key, _Bucket(self._size, now))
        left = min(self._size, bucket.left + (now - bucket.at) / self._every)
        if left < 1:
            raise TooMany(
                f"at most {self._size:.0f} of these requests a minute", (1 - left) * self._every
            )
        return left

    def take(self, key: Hashable) -> None:
        """Count one; raises TooMany, which costs nothing."""
        left, now = self.expect(key), self._clock()
        self._buckets[key] = _Bucket(left - 1, now)
        self._buckets.move_to_end(key)
        while len(self._buckets) > self._keys:
            self._buckets.popitem(last=False)
