"""The channels in force for all replicas, where the statement that makes deliveries reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from quotabell.domain.matching import Match, as_regex
from quotabell.store.database import Database
from quotabell.store.queries import load
from quotabell.store.settling import SettlingStore

_SQL = load("channels")


class ChannelRow(NamedTuple):
    """A channel as the database knows it: not where exactly it is, nor its secrets."""

    name: str
    type: str
    origin: str
    match: Match
    min_percentage: float

    def columns(self) -> tuple[str | float | None, ...]:
        m = self.match
        patterns = (m.kind, m.provider, m.model, m.user, m.quota)
        return (
            *(self.name, self.type, self.origin),
            *(as_regex(p) for p in patterns),
            self.min_percentage,
        )


@dataclass(frozen=True, slots=True)
class ChannelStore:
    """Every method raises Unavailable, or Conflict."""

    database: Database

    async def put(self, wanted: Sequence[ChannelRow]) -> None:
        """Have these and no other channels in force; what is open for others fails."""
        rows = sorted(channel.columns() for channel in wanted)
        async with self.database.transaction() as connection:
            known = [tuple(row.values()) for row in await connection.fetch(_SQL["known"])]
            if known == rows:
                return
            await connection.execute(_SQL["lock"])
            await connection.execute(_SQL["remove"], [channel.name for channel in wanted])
            for row in rows:
                await connection.execute(_SQL["define"], *row)
            await connection.execute(_SQL["moved"])
            orphans = await connection.fetch(_SQL["orphaned"])
        # What cannot be settled at once is not forgotten: the evaluator looks for it.
        await SettlingStore(self.database).settle({row["notification"] for row in orphans})

    async def names(self) -> list[str]:
        """The channels in force by name."""
        return [row["name"] for row in await self.database.fetch(_SQL["known"])]
