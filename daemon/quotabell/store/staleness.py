"""Sources that may have stopped."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from quotabell.domain.staleness import Reporter
from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("staleness")


class Told(NamedTuple):
    """What the alert of a source was about: its last report, how long it might be silent."""

    last: datetime | None
    allowed: timedelta


class Silent(NamedTuple):
    """A source that is silent, or was when its alert began.

    ``silence``: as far as somebody listened; ``heard``, ``watched``: for how long without an
    outage, and for how long sources are watched. ``refused``: since its last report it sent
    what was refused. ``told`` None: no alert fires.
    """

    reporter: Reporter
    silence: timedelta
    heard: timedelta
    watched: timedelta
    refused: datetime | None
    told: Told | None


@dataclass(frozen=True, slots=True)
class StalenessStore:
    """Every method raises Unavailable."""

    database: Database

    async def silent(self, at_least: timedelta | None) -> list[Silent]:
        """Sources that are silent for so long (None: none of these), and all whose alert fires."""
        return [
            Silent(
                Reporter(*row[:6]),
                row["silence"],
                row["heard"],
                row["watched"],
                row["refused"],
                Told(row["told_last"], row["told_allowed"] or timedelta(0))
                if row["firing"]
                else None,
            )
            for row in await self.database.fetch(_SQL["silent"], at_least)
        ]

    async def gone(self) -> list[str]:
        """The names of sources whose alert fires, and which do not exist any more."""
        return [row["subject"] for row in await self.database.fetch(_SQL["gone"])]
