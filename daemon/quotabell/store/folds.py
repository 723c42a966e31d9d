"""Which users have series of their own in ``/metrics``, as all replicas know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("folds")


@dataclass(frozen=True, slots=True)
class FoldStore:
    """Every method raises Unavailable."""

    database: Database

    async def generation(self) -> int:
        """How often users were folded; 0: never, everybody has series."""
        rows = await self.database.fetch(_SQL["generation"])
        return int(rows[0]["generation"])

    async def named(self) -> frozenset[str]:
        """Who has series of their own once users were folded."""
        return frozenset(row["user_id"] for row in await self.database.fetch(_SQL["named"]))

    async def keep(self, generation: int, users: Mapping[str, int], room: int) -> None:
        """Of ``users`` with so many series each, name only those who came first and fit.

        Nothing happens if others have decided since ``generation``.
        """
        about = (list(users), list(users.values()), room)
        async with self.database.transaction() as connection:
            if await connection.fetch(_SQL["next"], generation):
                first = await connection.fetch(_SQL["first"], *about)
                kept = [row["user_id"] for row in first]
                if generation == 0:
                    await connection.execute(_SQL["name"], kept)
                else:
                    await connection.execute(_SQL["fold"], list(users.keys() - set(kept)))
