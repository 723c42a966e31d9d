"""Since when somebody listens, as all replicas know it: what is not heard is not silence."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("rounds")


@dataclass(frozen=True, slots=True)
class RoundStore:
    database: Database

    async def heard(self, again_within: timedelta, watching: bool | None) -> timedelta | None:
        """Note that somebody listens now; raises Unavailable.

        If the one before did not keep to its ``again_within`` the time since then was an
        outage: its length. ``watching``: whether sources are watched; None: as before.
        """
        rows = await self.database.fetch(_SQL["heard"], again_within, watching)
        length: timedelta | None = rows[0]["outage"] if rows else None
        return length
