"""How bad the alerts are that fire, for ``/metrics``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("levels")
_AT_A_TIME = 1_000


class Firing(NamedTuple):
    """An alert that fires; ``level`` in percent of the limit."""

    user_id: str
    quota: str
    provider: str
    model: str
    kind: str
    level: float


@dataclass(frozen=True, slots=True)
class AlertLevelStore:
    """Raises Unavailable."""

    database: Database

    async def firing(self) -> AsyncIterator[list[Firing]]:
        """Every alert of a quota that fires, some at a time; later episodes last."""
        rows = await self.database.fetch(_SQL["firing"])
        for start in range(0, len(rows), _AT_A_TIME):
            yield [Firing(*row) for row in rows[start : start + _AT_A_TIME]]
