"""Alerts as the evaluator keeps them true."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("alerts")


class Rung(NamedTuple):
    """A batch of states that were due, as far as nobody held them, and without an error."""

    due: int
    tried: int
    rung: int
    failed: Sequence[UUID] = ()


@dataclass(frozen=True, slots=True)
class AlertStore:
    """Every method is safe to repeat and raises Unavailable, or Conflict."""

    database: Database

    async def ring_due(self, limit: int, skipped: Collection[UUID] = ()) -> Rung:
        """Ring up to ``limit`` states that are due, but none of those skipped."""
        return Rung(*(await self.database.fetch(_SQL["ring_due"], limit, list(skipped)))[0])

    async def reannounce(self, limit: int) -> int:
        """Write lost transitions into the history again; how many."""
        return len(await self.database.fetch(_SQL["reannounce"], limit))

    async def end_orphans(self, limit: int) -> int:
        """Resolve alerts whose quota state is gone; how many."""
        return len(await self.database.fetch(_SQL["end_orphans"], limit))

    async def rearm(self, batch: int) -> int | None:
        """Compare a batch of states anew after a change of thresholds.

        How many there were; None: no scope can be worked off now.
        """
        states: int | None = (await self.database.fetch(_SQL["rearm"], batch))[0]["states"]
        return states

    async def rearm_pending(self) -> int:
        """How many scopes are yet to be compared anew."""
        return int((await self.database.fetch(_SQL["rearm_pending"]))[0]["scopes"])
