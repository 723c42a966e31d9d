"""The mirror of the configuration in the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("settings")


@dataclass(frozen=True, slots=True)
class SettingsStore:
    database: Database

    async def mirror(
        self,
        fingerprint: str,
        thresholds: Sequence[float],
        hysteresis: float,
        min_interval: timedelta,
        repeat_interval: timedelta,
    ) -> bool:
        """Put a configuration in force; whether it differs from the one before."""
        intervals = (min_interval, repeat_interval)
        rows = await self.database.fetch(
            _SQL["mirror"], fingerprint, list(thresholds), hysteresis, *intervals
        )
        return bool(rows)

    async def in_force(self) -> str:
        """The fingerprint of the configuration in force."""
        rows = await self.database.fetch(_SQL["in_force"])
        return str(rows[0]["config_hash"]) if rows else ""
