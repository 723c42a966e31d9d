"""Quota states as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, NamedTuple
from uuid import UUID

import msgspec

from quotabell.domain.matching import Match, as_regex
from quotabell.domain.usage import BIGINT_MAX
from quotabell.store.database import Connection, Database
from quotabell.store.queries import load

_SQL = load("states")

NO_PERCENTAGE = -1.0  # its place in the order: behind all others

Key = tuple[str, str, str]
"""(quota, provider, user): what decides on thresholds."""


class ListedState(NamedTuple):
    """A quota state; ``period_start`` None: of a snapshot."""

    id: UUID
    user_id: str
    quota: str
    provider: str
    model: str
    period_start: datetime | None
    period_end: datetime | None
    unit: str
    tokens_used: int
    token_limit: int | None
    percentage: float | None
    reported_at: datetime
    updated_at: datetime
    oldest_writer: int  # the oldest transaction that was open when this was read

    @property
    def key(self) -> Key:
        return (self.quota, self.provider, self.user_id)


class FiringAlert(NamedTuple):
    """The firing threshold alert of a state; ``level`` in percent."""

    id: UUID
    level: float
    started_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None


class Removed(NamedTuple):
    """What a state that was removed was of."""

    id: str
    user_id: str
    quota: str
    provider: str
    model: str


class Position(NamedTuple):
    """Where in the list a part ends.

    ``changed``: among what changed since the list's first part; it comes last, by id.
    ``oldest_writer``: of the first part.
    """

    changed: bool
    percentage: float
    id: UUID
    oldest_writer: Annotated[int, msgspec.Meta(ge=0, le=BIGINT_MAX)]


class Part(NamedTuple):
    """A part of the list, and where the next one goes on; None: nowhere."""

    states: list[ListedState]
    end: Position | None


@dataclass(frozen=True, slots=True)
class StateStore:
    """Every method raises Unavailable. ``user`` None: everybody's."""

    database: Database

    async def listed(
        self,
        user: str | None,
        match: Match,
        *,
        state: str,
        updated_after: datetime | None,
        after: Position | None,
        limit: int,
    ) -> Part:
        """States that match, highest percentage first; ``state``: open, closed or all.

        Read in parts, every state that is there all the time comes: once if it does not
        change meanwhile, at the end if it does, and then perhaps for a second time.
        """
        about = (
            user,
            *(as_regex(p) for p in (match.provider, match.model, match.user, match.quota)),
            state,
            updated_after,
        )
        async with self.database.acting_for(user) as connection:
            if after is None:
                found = await _fetch(connection, about, 0, None, limit + 1)
            elif not after.changed:
                found = await _fetch(connection, about, 1, after, limit + 1)
            else:
                found = []
            shown = found[:limit]
            if len(found) > limit:
                return Part(shown, _end(shown[-1], after))
            if after is None:
                return Part(shown, None)
            rest = limit - len(shown)
            start = after if after.changed else after._replace(changed=True, id=UUID(int=0))
            found = await _fetch(connection, about, 2, start, rest + 1)
        if len(found) <= rest:
            return Part(shown + found, None)
        last = found[rest - 1].id if rest else UUID(int=0)
        return Part(shown + found[:rest], start._replace(id=last))

    async def alerts(
        self, user: str | None, states: Iterable[ListedState]
    ) -> Mapping[UUID, FiringAlert]:
        """The alerts of those states that have one, by the state's id."""
        keys = [state.id for state in states]
        async with self.database.acting_for(user) as connection:
            rows = await connection.fetch(_SQL["alerts"], keys)
        return {state: FiringAlert(*alert) for state, *alert in rows}

    async def thresholds(self, keys: Iterable[Key]) -> Mapping[Key, Sequence[float]]:
        """The effective thresholds of each key, ascending."""
        found = sorted(set(keys))
        if not found:
            return {}
        rows = await self.database.fetch(_SQL["thresholds"], *zip(*found, strict=True))
        return {(quota, provider, user): values for quota, provider, user, values in rows}

    async def remove(self, key: UUID) -> Removed | None:
        """Delete a state and end its alerts; None: there is none."""
        rows = await self.database.fetch(_SQL["remove"], key)
        return Removed(*rows[0][:5]) if rows else None


async def _fetch(
    connection: Connection,
    about: tuple[object, ...],
    phase: int,
    after: Position | None,
    limit: int,
) -> list[ListedState]:
    place = (after.percentage, after.id, str(after.oldest_writer)) if after else (None, None, None)
    rows = await connection.fetch(_SQL["listed"], *about, phase, *place, limit)
    return [ListedState(*row) for row in rows]


def _end(last: ListedState, after: Position | None) -> Position:
    percentage = NO_PERCENTAGE if last.percentage is None else last.percentage
    return Position(
        False, percentage, last.id, after.oldest_writer if after else last.oldest_writer
    )
