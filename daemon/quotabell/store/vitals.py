"""How the database itself is doing: sizes, dead rows, partitions, old transactions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("vitals")

TABLES = (
    "alerts",
    "attempts",
    "deliveries",
    "notification_history",
    "push_subscriptions",
    "token_totals",
    "token_usage",
    "usage_burn",
    "usage_events",
    "usage_periods",
    "usage_samples",
)
"""Those that grow with use."""

TIMEOUT = 2.0  # seconds; the size of a table that somebody has locked is waited for


class TableVitals(NamedTuple):
    """Bytes with indexes, and rows as the statistics estimate them, over all partitions.

    ``partitions`` and ``partitions_end``: None for a table without them.
    """

    name: str
    bytes: int
    live_rows: int
    dead_rows: int
    partitions: int | None
    partitions_end: datetime | None


class Vitals(NamedTuple):
    """``oldest_transaction``: for how many seconds it has been open."""

    oldest_transaction: float
    tables: tuple[TableVitals, ...]


@dataclass(frozen=True, slots=True)
class VitalsStore:
    """Raises Unavailable."""

    database: Database

    async def measure(self) -> Vitals:
        """What the catalog and the statistics tell now; gives up after `TIMEOUT` each."""
        async with self.database.connection() as connection:
            oldest = await connection.fetchval(_SQL["oldest_transaction"], timeout=TIMEOUT)
            rows = await connection.fetch(_SQL["tables"], TABLES, timeout=TIMEOUT)
        return Vitals(oldest, tuple(TableVitals(*row) for row in rows))
