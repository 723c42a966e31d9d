"""Alerts as people read and acknowledge them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, NamedTuple
from uuid import UUID

import msgspec

from quotabell.domain.matching import Match, as_regex
from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("episodes")


class Alert(NamedTuple):
    """An alert. ``reason`` and ``ended_at`` None: it fires. ``subject``: the source or channel that
    it is about; empty: the quota state of ``state_id``, else this is the subject's id.
    ``exhausts_at``: of a forecast."""

    id: UUID
    state_id: UUID
    kind: str
    status: str
    user_id: str
    quota: str
    provider: str
    model: str
    level: float
    seq: int
    tokens_used: int
    token_limit: int | None
    reason: str | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    started_at: datetime
    ended_at: datetime | None
    subject: str
    exhausts_at: datetime | None


class Position(NamedTuple):
    """The alert behind which a part of the list begins."""

    started_at: Annotated[datetime, msgspec.Meta(tz=True)]
    id: UUID


@dataclass(frozen=True, slots=True)
class EpisodeStore:
    """Every method raises Unavailable. ``user`` None: everybody's."""

    database: Database

    async def listed(
        self, user: str | None, match: Match, status: str, after: Position | None, limit: int
    ) -> list[Alert]:
        """Alerts that match, newest first; ``status``: firing, resolved or all."""
        regexes = (
            as_regex(p) for p in (match.provider, match.model, match.user, match.quota, match.kind)
        )
        at = after or (None, None)
        async with self.database.acting_for(user) as connection:
            rows = await connection.fetch(_SQL["listed"], user, *regexes, status, *at, limit)
        return [Alert(*row) for row in rows]

    async def acknowledge(self, user: str | None, key: UUID, by: str) -> Alert | None:
        """Note that ``by`` has seen an alert; whoever was first stays. None: there is none.

        One that has ended is returned as it is.
        """
        rows = await self.database.fetch(_SQL["acknowledge"], key, user, by)
        return Alert(*rows[0]) if rows else None
