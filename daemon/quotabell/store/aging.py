"""Deleting what is older than its retention."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("aging")


@dataclass(frozen=True, slots=True)
class AgingStore:
    database: Database

    async def history(self, retention: timedelta, limit: int) -> int:
        """Delete up to ``limit`` notifications, and ended alerts; how many notifications."""
        return len(await self.database.fetch(_SQL["history"], retention, limit))

    async def subscriptions(self, retention: timedelta, limit: int) -> int:
        """Delete up to ``limit`` subscriptions that ended so long ago; how many."""
        return len(await self.database.fetch(_SQL["subscriptions"], retention, limit))
