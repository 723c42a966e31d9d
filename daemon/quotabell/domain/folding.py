"""What keeps ``/metrics`` bounded: users without series of their own, and counts instead."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, Protocol

from quotabell.domain.events import KINDS, Kinds

OTHER = "other"
"""The user of whatever is folded."""

BANDS = ("0-50", "50-75", "75-90", "90-100", "over")
"""By the percentage of the limit; what is on an edge is in the upper one."""

_EDGES = (0.5, 0.75, 0.9, 1.0)


@dataclass(frozen=True, slots=True)
class Folding:
    """Who has series of their own. ``named`` None: every user, else these and nobody else."""

    per_user: bool = True
    named: frozenset[str] | None = None

    def shows(self, user: str) -> bool:
        """Whether quotas of this user have gauges; those that count for everybody have."""
        if user == "":
            return True
        return self.per_user and (self.named is None or user in self.named)

    def names(self, user: str) -> bool:
        """Whether this user's sums stand alone; one who is called like `OTHER` is among them."""
        return self.per_user and self.shows(user)


class Sum(NamedTuple):
    """Sums of several users."""

    user_id: str
    provider: str
    model: str
    kinds: Kinds
    requests: int
    cost_usd: Decimal


class Summand(Protocol):
    """A running sum of a user, provider and model, which never falls."""

    @property
    def user_id(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def kinds(self) -> Kinds: ...
    @property
    def requests(self) -> int: ...
    @property
    def cost_usd(self) -> Decimal: ...


_Amounts = tuple[int | Decimal, ...]
_NOTHING: _Amounts = (*[0] * len(KINDS), 0, Decimal(0))


class FoldedSums:
    """Sums over users by provider and model, kept by what each user adds to them.

    An older figure that comes after a newer one changes nothing, so they never fall.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[str, str, str], _Amounts] = {}
        self._sums: dict[tuple[str, str], list[int | Decimal]] = {}

    def add(self, total: Summand) -> None:
        """Take what a user has now in place of what the user had."""
        key = (total.user_id, total.provider, total.model)
        new: _Amounts = (*total.kinds, total.requests, total.cost_usd)
        old = self._parts.get(key)
        sums = self._sums.setdefault(key[1:], [*_NOTHING])
        if old is not None:
            new = tuple(map(max, new, old))
        for place, amount in enumerate(new):
            sums[place] += amount - old[place] if old else amount
        self._parts[key] = new

    def __iter__(self) -> Iterator[Sum]:
        for (provider, model), (*kinds, requests, cost) in self._sums.items():
            yield Sum(OTHER, provider, model, Kinds(*map(int, kinds)), int(requests), Decimal(cost))


class Bands:
    """How many subjects of each quota are in each of `BANDS`, kept by where each of them is."""

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = {}
        self._places: dict[Hashable, tuple[list[int], int]] = {}

    def put(self, key: Hashable, quota: str, used: int, limit: int | None) -> None:
        """Add a subject, or move it to the band where it is now."""
        counts = self.counts.get(quota)
        if counts is None:
            counts = self.counts[quota] = [0] * len(BANDS)
        self._take_out(key)
        if not limit:
            self._places.pop(key, None)
            return
        place = bisect_right(_EDGES, used / limit)
        counts[place] += 1
        self._places[key] = (counts, place)

    def drop(self, key: Hashable) -> None:
        """Forget a subject."""
        self._take_out(key)
        self._places.pop(key, None)

    def _take_out(self, key: Hashable) -> None:
        if (found := self._places.get(key)) is not None:
            counts, place = found
            counts[place] -= 1
