"""How events would count, worked out without counting them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from quotabell.domain.events import (
    Key,
    Kinds,
    Outcome,
    UsageEvent,
    near_midnight,
    outcomes,
    reduce_repeats,
)
from quotabell.domain.quotas import Charge, QuotaBook


class Stored(NamedTuple):
    """The first report of a call, with the kinds that count by now."""

    at: datetime
    provider: str
    model: str
    user_id: str
    kinds: Kinds


class Explained(NamedTuple):
    """What would become of one event.

    ``counts_as`` is the call as it would then stand: of a repeat, whose it is and when is what
    the first report said. ``repeats`` is the key of the stored call, or of one before it in the
    batch, that it reports again. ``charges`` are what it would add to counters of quotas.
    """

    outcome: Outcome
    counts_as: Stored
    repeats: Key | None
    charges: list[Charge]


def keys(events: Sequence[UsageEvent]) -> list[Key]:
    """Every key under which the calls of these events may be stored, without repeats."""
    found: dict[Key, None] = {}
    for event in events:
        if event.id is not None and event.time is not None:
            for day in (near_midnight(event.time), event.time.date()):
                if day is not None:
                    found[event.source, event.id, day] = None
    return list(found)


def explain(
    events: Sequence[UsageEvent], stored: Mapping[Key, Stored], book: QuotaBook, now: datetime
) -> list[Explained]:
    """What would become of each event of a batch; ``stored``: those of `keys` that there are."""
    reduced = reduce_repeats(events, stored)
    held = [None if key is None else stored.get(key) for key in reduced.keys]
    before = [None if call is None else call.kinds.total for call in held]
    found = []
    for event, call, outcome in zip(
        events, reduced.calls, outcomes(events, reduced, before), strict=True
    ):
        known = held[call]
        standing = _standing(event, known, outcome, now)
        charges = _charges(book, standing)
        if outcome is Outcome.DUPLICATE:
            charges = []
        elif known is not None:
            charges = _differences(charges, _charges(book, known))
        repeats = reduced.keys[call] if known is not None else None
        found.append(Explained(outcome, standing, repeats, charges))
        held[call] = standing
    return found


def _standing(event: UsageEvent, known: Stored | None, outcome: Outcome, now: datetime) -> Stored:
    if known is None:
        return Stored(event.time or now, event.provider, event.model, event.user_id, event.kinds)
    return known if outcome is Outcome.DUPLICATE else known._replace(kinds=event.kinds)


def _charges(book: QuotaBook, call: Stored) -> list[Charge]:
    return book.charges(call.provider, call.model, call.user_id, call.kinds, call.at)


def _differences(new: Sequence[Charge], old: Sequence[Charge]) -> list[Charge]:
    return [
        after._replace(amount=after.amount - before.amount)
        for after, before in zip(new, old, strict=True)
    ]
