"""Who reports, by which way in, and how it goes."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("sources")
_LOCK = 0x736F7572636573  # "sources"

BOUND = 1_000  # names; what comes beyond is counted as OTHER
OTHER = "other"


class Source(NamedTuple):
    """Who reports: a token, its user (empty: nobody in particular), by which way in.

    ``source``: the sender's own name for what makes the calls; empty: not given.
    """

    sender: str
    user_id: str
    kind: str
    source: str = ""

    @property
    def name(self) -> str:
        return "/".join(filter(None, (self.sender, self.kind, self.source)))


class Count(NamedTuple):
    """What was received of a source: taken, repeats as well, and rejected; ``signal``: of
    OpenTelemetry's, the one that counts."""

    events: int = 0
    last_event_at: datetime | None = None
    rejected: int = 0
    last_rejected_at: datetime | None = None
    last_error: str | None = None
    signal: str | None = None
    first_event_at: datetime | None = None


class ListedSource(NamedTuple):
    """A source as it is stored. ``stale_since``: when its alert began; None: it has none."""

    name: str
    user_id: str
    kind: str
    first_seen: datetime
    last_event_at: datetime | None
    events: int
    rejected: int
    last_rejected_at: datetime | None
    last_error: str | None
    signal: str | None
    stale_since: datetime | None


@dataclass(frozen=True, slots=True)
class SourceStore:
    """Every method raises Unavailable. ``user`` None: everybody's."""

    database: Database

    async def add(self, counts: Mapping[Source, Count]) -> None:
        """Add what was counted. Raises Refused for what the database cannot hold."""
        rows = sorted((s.name, s.user_id, s.kind or OTHER, *count) for s, count in counts.items())
        async with self.database.transaction() as connection:
            await connection.execute(_SQL["lock"], _LOCK)
            await connection.execute(_SQL["add"], BOUND, *zip(*rows, strict=True))

    async def listed(self, user: str | None) -> list[ListedSource]:
        """Every source by name; there are `BOUND` and one at most."""
        async with self.database.acting_for(user) as connection:
            rows = await connection.fetch(_SQL["listed"], user)
        return [ListedSource(*row) for row in rows]

    async def all(self) -> AsyncGenerator[list[ListedSource], None]:
        """Everybody's, for /metrics."""
        yield await self.listed(None)
