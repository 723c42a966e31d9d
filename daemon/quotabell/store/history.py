"""The history of notifications: read, tested, sent again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from quotabell.store import jsonb
from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("history")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class HistoryStore:
    """Every method raises Unavailable. ``user`` None: everybody's."""

    database: Database

    async def listed(
        self,
        user: str | None,
        status: str | None,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> list[Row]:
        """Newest first; ``deliveries`` holds each delivery with its ``attempts``."""
        at, key = after or (None, None)
        async with self.database.acting_for(user or None) as connection:
            rows = await connection.fetch(_SQL["listed"], user, status, at, key, limit)
        return [
            dict(row)
            | {
                "data": jsonb.decoded(row["data"]),
                "deliveries": json.loads(row["deliveries"]),
            }
            for row in rows
        ]

    async def test(self, user: str, title: str, body: str) -> UUID:
        """Queue a test message for a user's subscriptions."""
        key: UUID = await self._queue("test", user, title, body)
        return key

    async def resend(self, user: str | None, key: UUID) -> UUID | None:
        """Queue a notification's message again; None: there is no such notification."""
        new: UUID | None = await self._queue("resend", key, user)
        return new

    async def _queue(self, query: str, *args: Any) -> Any:
        async with self.database.transaction() as connection:
            key = await connection.fetchval(_SQL[query], *args)
            await connection.execute(_SQL["hint"])
        return key
