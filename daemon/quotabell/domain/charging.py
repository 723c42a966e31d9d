"""What a batch of counted events adds to the counters of quotas."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple

from quotabell.domain.events import Kinds
from quotabell.domain.quotas import Charge, QuotaBook
from quotabell.domain.usage import BIGINT_MAX

Position = tuple[date, str, str]
"""(day, source, id) of an event: the order in which events are counted again."""


class Entry(NamedTuple):
    """An event that was stored for the first time, or corrected.

    ``generation`` is that of the quotas it was first counted for; ``former`` are the kinds that
    it had before, None for a new one.
    """

    key: Position
    at: datetime
    provider: str
    model: str
    user_id: str
    generation: int
    kinds: Kinds
    former: Kinds | None = None


class Standing(NamedTuple):
    """How far the states of a quota follow its definition.

    Events of its ``generation`` or later were added when they came; earlier ones from
    ``counted_from`` on were, or while ``recounting`` will be, added by counting again.
    """

    generation: int
    counted_from: datetime
    recounting: bool


@dataclass(frozen=True, slots=True)
class InForce:
    """The quotas that hold for all replicas; ``generation`` grows with every change."""

    generation: int
    book: QuotaBook
    standings: Mapping[str, Standing]


class Counter(NamedTuple):
    """The key of a quota state."""

    user_id: str
    quota: str
    provider: str
    model: str
    period_start: datetime


class Sum(NamedTuple):
    """What a batch adds to one counter; negative if corrections moved tokens to lighter kinds."""

    period_end: datetime
    amount: int
    limit: int


def sums(charges: Iterable[Charge]) -> dict[Counter, Sum]:
    """Charges added up, one sum a counter, each within a bigint."""
    found: dict[Counter, Sum] = {}
    for charge in charges:
        counter = Counter(
            charge.user_id, charge.quota, charge.provider, charge.model, charge.period_start
        )
        known = found.get(counter)
        amount = charge.amount + (known.amount if known else 0)
        found[counter] = Sum(charge.period_end, amount, charge.limit)
    return {
        counter: added._replace(amount=max(-BIGINT_MAX, min(added.amount, BIGINT_MAX)))
        for counter, added in found.items()
    }


def charges(
    entries: Iterable[Entry], quotas: InForce, recounted: Callable[[str, Position], bool]
) -> list[Charge]:
    """What entries add to the counters of the quotas in force.

    A new event is added to all. The difference of a corrected one is added where the event
    itself was: not where counting again has yet to come to it, or will not. ``recounted`` says
    whether the event at a position has been counted again for a quota that is ``recounting``.
    """
    found: list[Charge] = []
    for entry in entries:
        added = _charged(quotas.book, entry, entry.kinds)
        if entry.former is None:
            found += added
            continue
        before = _charged(quotas.book, entry, entry.former)
        found += [
            new._replace(amount=new.amount - old.amount)
            for new, old in zip(added, before, strict=True)
            if _holds(quotas.standings[new.quota], entry, new.quota, recounted)
        ]
    return found


def uncertain(entries: Iterable[Entry], quotas: InForce) -> list[str]:
    """Quotas being counted again that corrected entries may or may not have been counted for."""
    oldest = min((e.generation for e in entries if e.former is not None), default=None)
    return [
        name
        for name, standing in sorted(quotas.standings.items())
        if oldest is not None and standing.recounting and oldest < standing.generation
    ]


def _holds(
    standing: Standing, entry: Entry, quota: str, recounted: Callable[[str, Position], bool]
) -> bool:
    if entry.generation >= standing.generation:
        return True
    if entry.at < standing.counted_from:
        return False
    return not standing.recounting or recounted(quota, entry.key)


def _charged(book: QuotaBook, entry: Entry, kinds: Kinds) -> list[Charge]:
    return book.charges(entry.provider, entry.model, entry.user_id, kinds, entry.at)
