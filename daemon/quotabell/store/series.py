"""How far cumulative series have been counted (table series_marks)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from quotabell.domain.events import UsageEvent
from quotabell.domain.series import Mark, MarkKey, latest, settled
from quotabell.store.database import Connection, Database
from quotabell.store.queries import load

_SQL = load("series")


async def resolve(
    connection: Connection, batch: Sequence[UsageEvent], now: datetime
) -> list[UsageEvent | None]:
    """The events of a batch with what their series grew by; None: by nothing.

    Moves the marks, within the transaction that counts the events, and holds them until its end.
    """
    marks = latest(batch)
    keys = sorted(marks)
    columns = zip(*((*key, marks[key].value, marks[key].time) for key in keys), strict=True)
    rows = await connection.fetch(_SQL["move"], *columns)
    before = {
        MarkKey(row["source"], row["series_key"], row["start_time"].astimezone(UTC)): Mark(
            int(row["prev_value"] or 0),
            row["prev_time"] and row["prev_time"].astimezone(UTC),
            row["restarted"],
        )
        for row in rows
    }
    return settled(batch, before, now)


@dataclass(frozen=True, slots=True)
class SeriesStore:
    database: Database

    async def forget(self, idle: timedelta, at_most: int = 5_000) -> int:
        """Delete marks of series that have not been reported for so long; how many."""
        rows = await self.database.fetch(_SQL["forget"], idle, at_most)
        return len(rows)
