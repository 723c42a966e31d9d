"""Alerts that are told again because they last."""

from __future__ import annotations

from dataclasses import dataclass

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("repeats")


@dataclass(frozen=True, slots=True)
class RepeatStore:
    database: Database

    async def repeat(self, limit: int) -> int:
        """Announce up to ``limit`` alerts again that are due; how many.

        Safe to repeat, also on several replicas at once: what was told is not due any more.
        Raises Unavailable, or Conflict.
        """
        async with self.database.transaction() as connection:
            rows = await connection.fetch(_SQL["repeat"], limit)
            if rows:
                await connection.execute(
                    _SQL["mark"], [row["id"] for row in rows], [row["seq"] for row in rows]
                )
        return len(rows)
