"""Usage events: what one call consumed, and how repeats of one call count once."""

from __future__ import annotations

from collections.abc import Container, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from quotabell.domain.series import Cumulative

KINDS = ("input", "cache_read", "cache_write", "output", "reasoning", "other")

Key = tuple[str, str, date]
"""(source, id, UTC day): what makes two events reports of one call."""

_DAY = timedelta(days=1)


class Kinds(NamedTuple):
    """Tokens of one call by kind. The kinds are disjoint: they add up to the total."""

    input: int = 0  # that no cache served or kept
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0  # visible
    reasoning: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        return sum(self)


def with_total(kinds: Kinds, total: int | None) -> Kinds:
    """The same kinds, with what a provider's own larger ``total`` has beyond them as other.

    A smaller total changes nothing, nor does none.
    """
    rest = (total or 0) - sum(kinds)
    return Kinds(*kinds[:5], kinds.other + rest) if rest > 0 else kinds


class UsageEvent(NamedTuple):
    """One call consumed tokens.

    ``source`` empty: not given. ``id`` None: counted as sent, without regard to repeats.
    ``time`` is in UTC; None: the moment of receipt. ``user_id`` empty: nobody in particular.
    ``cost_usd`` None: not known. ``requests``: how many calls it stands for. ``cumulative`` not
    None: the kinds are to be made of running sums, when it is counted.
    """

    source: str
    id: str | None
    time: datetime | None
    provider: str
    model: str
    user_id: str
    input: int
    cache_read: int
    cache_write: int
    output: int
    reasoning: int
    other: int
    cost_usd: Decimal | None = None
    requests: int = 1
    cumulative: Cumulative | None = None

    @property
    def total(self) -> int:
        return (
            self.input
            + self.cache_read
            + self.cache_write
            + self.output
            + self.reasoning
            + self.other
        )

    @property
    def kinds(self) -> Kinds:
        return Kinds(
            self.input, self.cache_read, self.cache_write, self.output, self.reasoning, self.other
        )


def near_midnight(time: datetime) -> date | None:
    """The neighbouring UTC day, if a UTC ``time`` lies in the first or last hour of its own.

    Two reports of one call may fall on both sides of midnight, so an event is first looked up
    under this day and then under its own.
    """
    if time.hour == 23:
        return time.date() + _DAY
    if time.hour == 0:
        return time.date() - _DAY
    return None


def neighbour_keys(events: Sequence[UsageEvent]) -> list[Key]:
    """The keys under which events near midnight may already be stored, without repeats."""
    found: dict[Key, None] = {}
    for event in events:
        if event.id is not None and event.time is not None:
            day = near_midnight(event.time)
            if day is not None:
                found[event.source, event.id, day] = None
    return list(found)


class Reduced(NamedTuple):
    """A batch as one event a call, in the order of their first reports.

    ``keys[c]`` is where ``events[c]`` belongs (None: it has no id and is simply added); no key
    is there twice. ``calls[i]`` says which of ``events`` item i of the batch became.
    """

    events: list[UsageEvent]
    keys: list[Key | None]
    calls: list[int]


def reduce_repeats(events: Sequence[UsageEvent], stored: Container[Key] = frozenset()) -> Reduced:
    """Reduce a batch, given in order of arrival, to what must be written.

    Of the repeats of one call, the first decides user, provider, model and time; the largest
    total decides the kinds and the cost, the first of equal ones. ``stored`` holds those of
    `neighbour_keys` that the database has. ``source`` must already be unique to its sender.
    """
    merged: list[UsageEvent] = []
    keys: list[Key | None] = []
    calls: list[int] = []
    places: dict[Key, int] = {}
    for event in events:
        key = _key(event, places, stored)
        place = None if key is None else places.get(key)
        if place is None:
            place = len(merged)
            merged.append(event)
            keys.append(key)
            if key is not None:
                places[key] = place
        elif event.total > merged[place].total:
            merged[place] = _corrected(merged[place], event)
        calls.append(place)
    return Reduced(merged, keys, calls)


class Outcome(StrEnum):
    """What became of one event of a batch."""

    ACCEPTED = "accepted"  # the first report of its call
    DUPLICATE = "duplicate"  # a repeat that says no more than what is known
    CORRECTED = "corrected"  # a repeat with a larger total, which now counts


def outcomes(
    events: Sequence[UsageEvent], reduced: Reduced, before: Sequence[int | None]
) -> list[Outcome]:
    """What became of each item of a batch, in its order, as if each had come alone.

    ``before[c]`` is the total that the database held for ``reduced.events[c]`` before the
    batch; None: nothing, as always without an id.
    """
    largest = list(before)
    found = []
    for event, call in zip(events, reduced.calls, strict=True):
        total, held = event.total, largest[call]
        if held is None:
            found.append(Outcome.ACCEPTED)
        elif total > held:
            found.append(Outcome.CORRECTED)
        else:
            found.append(Outcome.DUPLICATE)
            continue
        largest[call] = total
    return found


def _key(event: UsageEvent, places: dict[Key, int], stored: Container[Key]) -> Key | None:
    if event.id is None or event.time is None:
        return None
    neighbour = near_midnight(event.time)
    if neighbour is not None:
        key = (event.source, event.id, neighbour)
        if key in places or key in stored:
            return key
    return (event.source, event.id, event.time.date())


def _corrected(first: UsageEvent, larger: UsageEvent) -> UsageEvent:
    return UsageEvent(
        first.source,
        first.id,
        first.time,
        first.provider,
        first.model,
        first.user_id,
        *larger.kinds,
        larger.cost_usd,
        first.requests,
    )
