"""What follows from how deliveries went: for notifications and for subscriptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("settling")

START = (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0))
"""Before every notification."""


class Recorded(msgspec.Struct, frozen=True):
    """How an attempt went, as it is committed; ids as text."""

    id: int
    notification: str
    subscription: str | None  # None: another channel
    status: str
    outcome: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class SettlingStore:
    """No method waits for a row that somebody holds. All raise Unavailable, or Conflict."""

    database: Database

    async def follow_up(self, recorded: Sequence[Recorded]) -> list[Recorded]:
        """Note at notifications and subscriptions how attempts went; may be repeated.

        Returns those for which somebody held a row: to be tried again.
        """
        left: set[str] = set()
        if any(one.outcome in ("sent", "gone") or _mismatch(one.reason) for one in recorded):
            text = msgspec.json.encode(recorded).decode()
            left.update(row["id"] for row in await self.database.fetch(_SQL["follow"], text))
        ended = {one.notification for one in recorded if one.status in ("failed", "expired")}
        left |= await self.settle(ended)
        return [one for one in recorded if one.notification in left or one.subscription in left]

    async def settle(self, notifications: set[str]) -> set[str]:
        """Close notifications that have no open delivery; those that somebody held."""
        if not notifications:
            return set()
        async with self.database.transaction() as connection:
            rows = await connection.fetch(_SQL["hold"], sorted(notifications))
            held = [row["id"] for row in rows if row["held"]]
            if held:
                await connection.execute(_SQL["settle"], held)
        return {str(row["id"]) for row in rows if not row["held"]}

    async def settle_forgotten(
        self, after: tuple[datetime, UUID], limit: int
    ) -> tuple[datetime, UUID]:
        """Settle those of the next ``limit`` open notifications that can be.

        Returns where to go on: START at the end.
        """
        rows = await self.database.fetch(_SQL["forgotten"], *after, limit)
        await self.settle({str(row["id"]) for row in rows if row["due"]})
        return (rows[-1]["created_at"], rows[-1]["id"]) if len(rows) == limit else START


def _mismatch(reason: str | None) -> bool:
    return reason is not None and reason.startswith("key_mismatch")
