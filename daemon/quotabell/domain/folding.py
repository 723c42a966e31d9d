"""What keeps ``/metrics`` bounded: users without series of their own, and counts instead."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable, Iterator, Set
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
    named: Set[str] | None = None

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


_Key = tuple[str, str, str]  # user, provider, model
_Amounts = tuple[int | Decimal, ...]
_NOTHING: _Amounts = (*[0] * len(KINDS), 0, Decimal(0))


class FoldedSums:
    """Sums over users by provider and model, kept by what each user adds to them.

    An older figure that comes after a newer one changes nothing, so they never fall, but by what
    is replaced or dropped.
    """

    def __init__(self) -> None:
        self._parts: dict[_Key, _Amounts] = {}
        self._sums: dict[tuple[str, str], list[int | Decimal]] = {}
        self._users: Counter[tuple[str, str]] = Counter()

    def add(self, total: Summand) -> None:
        """Take what a user has now in place of what the user had."""
        key, new = _part(total)
        self._put(key, tuple(map(max, new, self._parts.get(key, new))))

    def replace(self, total: Summand) -> None:
        """The same, even if the user had more."""
        self._put(*_part(total))

    def _put(self, key: _Key, new: _Amounts) -> None:
        old = self._parts.get(key)
        if old is None:
            self._users[key[1:]] += 1
            self._sums.setdefault(key[1:], [*_NOTHING])
        self._parts[key] = new
        self._move(key[1:], old or _NOTHING, new)

    def drop(self, key: _Key) -> None:
        """Forget what a user had of a model."""
        old = self._parts.pop(key, None)
        if old is not None:
            self._move(key[1:], old, _NOTHING)
            self._users[key[1:]] -= 1
            if not self._users[key[1:]]:
                del self._users[key[1:]], self._sums[key[1:]]

    def _move(self, model: tuple[str, str], old: _Amounts, new: _Amounts) -> None:
        if old != new:
            sums = self._sums[model]
            for place, amount in enumerate(new):
                sums[place] += amount - old[place]

    def keys(self) -> list[_Key]:
        """Of whom and of which models there are figures."""
        return list(self._parts)

    def __len__(self) -> int:
        return len(self._sums)

    def __iter__(self) -> Iterator[Sum]:
        for (provider, model), (*kinds, requests, cost) in self._sums.items():
            yield Sum(OTHER, provider, model, Kinds(*map(int, kinds)), int(requests), Decimal(cost))


class Bands:
    """How many subjects of each quota are in each of `BANDS`, kept by where each of them is."""

    def __init__(self) -> None:
        self.counts: dict[str, list[int]] = {}
        # Quota, and which band; the same of each: millions would be a burden to the collector.
        self._places: dict[Hashable, tuple[str, int | None]] = {}
        self._known: dict[tuple[str, int | None], tuple[str, int | None]] = {}
        self._subjects: Counter[str] = Counter()

    def put(self, key: Hashable, quota: str, used: int, limit: int | None) -> None:
        """Add a subject, or move it to the band where it is now; none if its limit is not known."""
        place = bisect_right(_EDGES, used / limit) if limit else None
        if self._places.get(key) == (quota, place):
            return
        self.drop(key)
        if quota not in self.counts:
            self.counts[quota] = [0] * len(BANDS)
        self._places[key] = self._known.setdefault((quota, place), (quota, place))
        self._subjects[quota] += 1
        if place is not None:
            self.counts[quota][place] += 1

    def drop(self, key: Hashable) -> None:
        """Forget a subject; with its last one a quota."""
        quota, place = self._places.pop(key, ("", None))
        if place is not None:
            self.counts[quota][place] -= 1
        if quota in self.counts:
            self._subjects[quota] -= 1
            if not self._subjects[quota]:
                del self._subjects[quota], self.counts[quota]

    def keys(self) -> list[Hashable]:
        """The subjects."""
        return list(self._places)


def _part(total: Summand) -> tuple[_Key, _Amounts]:
    key = (total.user_id, total.provider, total.model)
    return key, (*total.kinds, total.requests, total.cost_usd)
