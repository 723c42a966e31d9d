"""Tables that are kept by day or month: made ahead, dropped when their time is over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from quotabell.store.database import Connection, Database
from quotabell.store.queries import load

_SQL = load("partitions")


@dataclass(frozen=True, slots=True)
class Partitions:
    """The partitions of one table, in UTC. Every method raises Unavailable."""

    database: Database
    table: str
    every: Literal["day", "month"]

    async def keep(self, first: date, last: date) -> int:
        """Make those from the one of ``first`` to that of ``last``; how many were missing."""
        rows = await self.database.fetch(_SQL["keep"], self.table, self.every, first, last)
        return int(rows[0]["made"])

    async def drop_before(self, oldest: date) -> list[str]:
        """Drop those that end by ``oldest``, without blocking writers; their names."""
        dropped = []
        async with self.database.connection() as connection:
            for part in await connection.fetch(_SQL["parts"], self.table, self.every):
                if part["ends"] <= oldest:
                    if part["attached"]:
                        await self._detach(connection, part["name"], part["detaching"])
                    await connection.execute(f'drop table quotabell_parts."{part["name"]}"')
                    dropped.append(part["name"])
        return dropped

    async def _detach(self, connection: Connection, name: str, begun: bool) -> None:
        """Wait for nobody and make nobody wait; a detaching that was cut off is finished."""
        how = "finalize" if begun else "concurrently"
        await connection.execute(
            f'alter table public.{self.table} detach partition quotabell_parts."{name}" {how}'
        )


def days_to_keep(now: datetime, retention: timedelta) -> tuple[date, date]:
    """The first and last UTC day whose partitions must exist."""
    return (now - retention).date(), (now + timedelta(days=3)).date()
