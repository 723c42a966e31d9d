"""Silences: what is not told for a while."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from quotabell.domain.matching import Match, as_regex
from quotabell.errors import QuotabellError
from quotabell.store import jsonb
from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("silences")

BOUND = 100  # of a user, or of nobody in particular, that have not ended

Row = dict[str, Any]


class TooManySilences(QuotabellError):
    """There are too many silences already that have not ended; remove some."""


class Matchers(NamedTuple):
    """What a silence is about: as it was given, and as a match."""

    given: Mapping[str, str]
    match: Match

    def columns(self) -> tuple[str | None, ...]:
        m = self.match
        patterns = (m.provider, m.model, m.user, m.quota, m.kind)
        return (json.dumps(self.given), *(as_regex(p) for p in patterns))


@dataclass(frozen=True, slots=True)
class SilenceStore:
    """Every method raises Unavailable. ``user`` None: everybody's silences, else that user's."""

    database: Database

    async def listed(
        self, user: str | None, state: str, after: tuple[datetime, UUID] | None, limit: int
    ) -> list[Row]:
        """Newest first; ``state``: active, pending, expired or all."""
        at, key = after or (None, None)
        async with self.database.acting_for(user) as connection:
            rows = await connection.fetch(_SQL["listed"], user, state, at, key, limit)
        return [_row(row) for row in rows]

    async def one(self, user: str | None, key: UUID) -> Row | None:
        async with self.database.acting_for(user) as connection:
            rows = await connection.fetch(_SQL["one"], key, user)
        return _row(rows[0]) if rows else None

    async def add(
        self,
        user: str,
        matchers: Matchers,
        starts_at: datetime | None,
        ends_at: datetime,
        author: str,
        reason: str,
    ) -> Row:
        """For a user's alerts, or anybody's (empty). Raises TooManySilences."""
        values = (*matchers.columns(), starts_at, ends_at, author, reason)
        async with self.database.transaction() as connection:
            await connection.execute(_SQL["lock"], user)
            rows = await connection.fetch(_SQL["add"], user, *values, BOUND)
        if not rows:
            raise TooManySilences
        return _row(rows[0])

    async def change(
        self,
        user: str | None,
        key: UUID,
        matchers: Matchers | None,
        starts_at: datetime | None,
        ends_at: datetime | None,
        reason: str | None,
    ) -> Row | None:
        """Change what is not None. Raises Refused if it would end before it starts."""
        columns = matchers.columns() if matchers else (None,) * 6
        values = (key, user, *columns, starts_at, ends_at, reason)
        rows = await self.database.fetch(_SQL["change"], *values)
        return _row(rows[0]) if rows else None

    async def remove(self, user: str | None, key: UUID) -> bool:
        return bool(await self.database.fetch(_SQL["remove"], key, user))

    async def ring(self, limit: int) -> int:
        """Announce what still fires and is not silenced any more; how many."""
        return len(await self.database.fetch(_SQL["ring"], limit))

    async def age(self, retention: timedelta, limit: int) -> int:
        """Delete silences that ended longer ago; how many."""
        return len(await self.database.fetch(_SQL["age"], retention, limit))


def _row(row: Any) -> Row:
    return dict(row) | {"matchers": jsonb.decoded(row["matchers"])}
