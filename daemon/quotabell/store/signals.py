"""By which signal each source is counted (table source_signals)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("signals")

BOUND = 10_000  # sources; of what comes beyond, spans and log records count


class Choice(NamedTuple):
    """The signal of a source; what ended by ``metrics_until`` was counted by its metrics."""

    signal: str
    rank: int
    metrics_until: datetime | None


@dataclass(frozen=True, slots=True)
class SignalStore:
    database: Database

    async def choose(
        self, source: str, signal: str, rank: int, metrics_until: datetime | None
    ) -> Choice | None:
        """The signal of a source that now also reports by ``signal``; the highest rank stays.

        ``metrics_until``: up to when its metrics will be counted, if they are its signal. None:
        there are too many sources. Raises Unavailable.
        """
        rows = await self.database.fetch(_SQL["choose"], source, signal, rank, metrics_until, BOUND)
        if not rows:
            return None
        until = rows[0]["metrics_until"]
        return Choice(rows[0]["signal"], rows[0]["rank"], until and until.astimezone(UTC))

    async def forget(self, idle: timedelta) -> None:
        """Delete the choices of sources of which nothing has come for so long."""
        await self.database.fetch(_SQL["forget"], idle)
