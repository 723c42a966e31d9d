"""Forecasts: what is known of the states in question, and what was decided about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from quotabell.domain.forecast import Known, Pace, Past, Usage
from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("forecasts")


class Candidate(NamedTuple):
    """A state of which a forecast might be made or ended. ``told``: when its alert, if one
    fires, says that it runs out."""

    id: UUID
    usage: Usage
    known: Known
    told: datetime | None


class Part(NamedTuple):
    """Candidates as of ``at``, of so many ``looked_at`` up to the state ``last``."""

    at: datetime
    looked_at: int
    last: UUID | None
    candidates: list[Candidate]


class Facts(msgspec.Struct, frozen=True, rename="camel"):
    """What messages of a forecast tell. ``burn``: tokens per second."""

    burn: float | None
    exhausts_at: datetime | None


class Decision(msgspec.Struct, frozen=True):
    """What is to be done about the forecast of a state; see ``quotabell_forecast()``."""

    id: UUID
    action: str
    reason: str | None = None
    silent: bool = False
    facts: Facts | None = None


class Done(NamedTuple):
    """How many decisions were tried, as far as nobody held the state, and done."""

    tried: int
    done: int


@dataclass(frozen=True, slots=True)
class ForecastStore:
    """Every method may be repeated, and raises Unavailable, or Conflict."""

    database: Database

    async def due(self, after: UUID, limit: int, *, ahead: timedelta, horizon: timedelta) -> Part:
        """Look at up to ``limit`` states by id behind ``after``.

        ``ahead``: within which time the burn must lead to the limit, unless the period is long.
        ``horizon``: 0 leaves out states whose period has no end that is known.
        """
        rows = await self.database.fetch(_SQL["due"], after, limit, ahead, horizon)
        first = rows[0]
        found = [_candidate(row) for row in rows if row["id"] is not None]
        return Part(first["at"], first["looked_at"], first["last"], found)

    async def decide(self, decisions: Sequence[Decision]) -> Done:
        """Do what was decided; one that fails does not keep the others from being done."""
        text = msgspec.json.encode(decisions).decode()
        return Done(*(await self.database.fetch(_SQL["decide"], text))[0])

    async def sweep(self) -> int:
        """Forget what was held of removed states; how many."""
        return int((await self.database.fetch(_SQL["sweep"]))[0]["swept"])


def _candidate(row: Any) -> Candidate:
    told = row["told"]
    return Candidate(
        row["id"],
        Usage(
            row["tokens_used"],
            row["token_limit"],
            row["period_start"],
            row["period_end"],
            Pace(row["burn"], row["day"], row["week"]),
            row["full"],
            tuple(map(Past, row["so_far"] or (), row["totals"] or ())),
        ),
        Known(row["since"], row["against"], row["fired"]),
        None if told is None else msgspec.convert(told, datetime),
    )
