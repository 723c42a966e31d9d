"""How channels do, as what became of attempts tells."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("health")


class Failing(NamedTuple):
    """A channel over which nothing arrives, since when and why. ``ok_at``: what last did."""

    subject: str
    failing_since: datetime
    ok_at: datetime | None
    reason: str


class Over(NamedTuple):
    """A channel whose alert is over, and why."""

    subject: str
    reason: str
    ok_at: datetime | None


@dataclass(frozen=True, slots=True)
class HealthStore:
    """Every method may be repeated and raises Unavailable, or Conflict."""

    database: Database

    async def note(self) -> None:
        """Take in what attempts that ended since the last call tell of their channels."""
        ((until, now),) = await self.database.fetch(_SQL["looked"])
        await self.database.execute(_SQL["note"], until, now)

    async def failing(self, longer_than: timedelta) -> list[Failing]:
        """Channels that are yet to be told of."""
        rows = await self.database.fetch(_SQL["failing"], longer_than)
        return [Failing(*row) for row in rows]

    async def over(self) -> list[Over]:
        """Channels of which it is yet to be told that they work again, or are gone."""
        return [Over(*row) for row in await self.database.fetch(_SQL["over"])]

    async def forget(self) -> None:
        """Delete what is known of channels that are gone."""
        await self.database.execute(_SQL["forget"])

    async def listed(self) -> dict[str, bool]:
        """Channels of which something is known, and whether their alert fires."""
        rows = await self.database.fetch(_SQL["listed"])
        return {row["subject"]: row["failing"] for row in rows}
