"""Closed quota states."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from quotabell.store.database import Database
from quotabell.store.partitions import Partitions
from quotabell.store.queries import load

_SQL = load("periods")


@dataclass(frozen=True, slots=True)
class PeriodStore:
    database: Database

    @property
    def months(self) -> Partitions:
        """Its partitions, by the start of the period."""
        return Partitions(self.database, "usage_periods", "month")

    async def archive(self, limit: int, oldest: datetime) -> int:
        """Move up to ``limit`` states that no longer change from the table of the present ones;
        how many. What began before ``oldest`` is dropped."""
        return int((await self.database.fetch(_SQL["archive"], limit, oldest))[0]["count"])
