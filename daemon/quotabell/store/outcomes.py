"""What became of attempts, and which origins asked for a pause."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from quotabell.errors import Busy
from quotabell.store.database import Database
from quotabell.store.queries import load
from quotabell.store.settling import Recorded

_SQL = load("outcomes")

Status = Literal["pending", "sent", "failed", "expired"]


class Told(msgspec.Struct, frozen=True):
    """What became of one attempt.

    ``delay``: seconds until the next one, if pending again. ``pause``: seconds for which
    nothing is to be sent to ``origin``.
    """

    id: int
    fence: int
    status: Status
    outcome: str
    http_status: int | None
    reason: str
    delay: float = 0.0
    counts: bool = True
    origin: str = ""
    pause: float = 0.0


@dataclass(frozen=True, slots=True)
class OutcomeStore:
    """Every method raises Unavailable, or Conflict where it may be repeated."""

    database: Database

    async def record(
        self, told: Sequence[Told], *, skip: bool = False
    ) -> tuple[list[Recorded], set[int]]:
        """Commit what became of attempts: those whose fence still held, and what is left to do.

        That is the ids of deliveries that somebody else holds (or the rows of whose attempts),
        to be told again; with ``skip`` they are not waited for at all. Nobody who holds one, a
        notification or a subscription holds this up: what follows for the latter two is left
        to ``settling``.
        """
        if not skip:
            try:
                rows = await self.database.fetch(_SQL["acknowledge"], _encoded(told))
                return [Recorded(*row.values()) for row in rows], set()
            except Busy:
                pass
        async with self.database.transaction() as connection:
            found = await connection.fetch(_SQL["held"], [one.id for one in told])
            held = {row["id"] for row in found}
            free = [one for one in told if one.id not in held]
            rows = await connection.fetch(_SQL["acknowledge"], _encoded(free)) if free else []
        return [Recorded(*row.values()) for row in rows], held

    async def pause(self, pauses: Mapping[str, tuple[float, str]]) -> set[str]:
        """Have all replicas leave origins alone for so many seconds, with a reason.

        Returns those whose rows somebody holds: to be told again.
        """
        origins = sorted(pauses)
        seconds, reasons = zip(*(pauses[origin] for origin in origins), strict=True)
        found = await self.database.fetch(_SQL["pause"], origins, list(seconds), list(reasons))
        return {row["origin"] for row in found}


def _encoded(told: Sequence[Told]) -> str:
    """One text, which is encoded ten times as fast as ten arrays."""
    return msgspec.json.encode(told).decode()


def pauses_of(told: Iterable[Told]) -> dict[str, tuple[float, str]]:
    """The longest pause that each origin asked for."""
    longest: dict[str, tuple[float, str]] = {}
    for one in told:
        if one.pause > longest.get(one.origin, (0.0, ""))[0]:
            longest[one.origin] = (one.pause, one.reason)
    return longest
