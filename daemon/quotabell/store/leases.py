"""Lease rows: leadership that works behind poolers and ends by itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("leases")


@dataclass(frozen=True, slots=True)
class LeaseStore:
    database: Database

    async def hold(self, name: str, holder: str, duration: timedelta) -> bool:
        """Whether ``holder`` has the lease for ``duration`` from now, by the database's clock."""
        return bool(await self.database.fetch(_SQL["hold"], name, holder, duration))

    async def release(self, name: str, holder: str) -> None:
        """Let another replica take over at once."""
        await self.database.execute(_SQL["release"], name, holder)
