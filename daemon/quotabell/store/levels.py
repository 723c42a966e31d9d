"""How bad the alerts are that fire, for ``/metrics``."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import NamedTuple

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("levels")


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

    def firing(self) -> AsyncGenerator[list[Firing], None]:
        """Every alert of a quota that fires, some at a time; of one name the later episode."""
        return self.database.stream("firing", _SQL["firing"], lambda row: Firing(*row))
