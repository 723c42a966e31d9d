"""The history of notifications: read, tested, sent again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from quotabell.store import jsonb
from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("history")

Row = dict[str, Any]


class Tried(NamedTuple):
    """How a delivery goes; ``target`` is a subscription's id or a channel's name."""

    channel: str
    target: str
    status: str
    http_status: int | None
    reason: str | None


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

    async def test(
        self, user: str, title: str, body: str, channels: Sequence[str] | None = None
    ) -> UUID:
        """Queue a test message for a user's subscriptions.

        ``channels``: for these channels instead; ``webpush`` are the subscriptions, ``*`` is all.
        """
        data = json.dumps({} if channels is None else {"channels": list(channels)})
        key: UUID = await self._queue("test", user, title, body, data)
        return key

    async def deliveries(self, key: UUID) -> list[Tried] | None:
        """What a notification was turned into; None: it was not yet."""
        rows = await self.database.fetch(_SQL["deliveries"], key)
        if not rows:
            return None
        return [Tried(*row) for row in rows if row["channel"] is not None]

    async def resend(self, user: str | None, key: UUID) -> UUID | None:
        """Queue a notification's message again; None: there is no such notification."""
        new: UUID | None = await self._queue("resend", key, user)
        return new

    async def _queue(self, query: str, *args: Any) -> Any:
        async with self.database.transaction() as connection:
            key = await connection.fetchval(_SQL[query], *args)
            await connection.execute(_SQL["hint"])
        return key
