"""Samples of quota states: how usage went, and how fast it grows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from quotabell.store.database import Database
from quotabell.store.partitions import Partitions
from quotabell.store.queries import load

_SQL = load("samples")

FIRST = UUID(int=0)


class Taken(NamedTuple):
    """How many samples were taken, and of which state the last one."""

    samples: int
    last: UUID | None


class Burn(NamedTuple):
    """Tokens per second as of the sample of ``at``."""

    rate: float
    at: datetime


class Burning(NamedTuple):
    """An open state whose burn is known; its figures are of ``at``."""

    id: str
    user_id: str
    quota: str
    provider: str
    model: str
    tokens_used: int
    token_limit: int | None
    period_end: datetime | None
    burn: float
    at: datetime
    unit: str = "tokens"


class Sample(NamedTuple):
    """What was used and allowed, and how fast it grew then."""

    time: datetime
    tokens_used: int
    token_limit: int | None
    burn: float | None


@dataclass(frozen=True, slots=True)
class SampleStore:
    """Every method raises Unavailable. ``user`` None: everybody's."""

    database: Database

    @property
    def months(self) -> Partitions:
        """The partitions of the samples."""
        return Partitions(self.database, "usage_samples", "month")

    async def take(self, window: timedelta, *, pause: timedelta, after: UUID, limit: int) -> Taken:
        """Sample what changed or burns, up to ``limit`` states by id behind ``after``.

        ``window``: over which the burn is measured. ``pause``: no state is sampled again
        within it, whoever asks. Raises Refused if the month's partition is missing.
        """
        return Taken(*(await self.database.fetch(_SQL["take"], window, pause, after, limit))[0])

    async def restart(self, states: Iterable[UUID]) -> None:
        """Measure the burn of these states anew: what was added lately is not of now."""
        await self.database.execute(_SQL["restart"], list(states))

    async def sweep(self) -> int:
        """Forget the last samples of removed states; how many."""
        return int((await self.database.fetch(_SQL["sweep"]))[0]["swept"])

    async def burns(self, user: str | None, states: Iterable[UUID]) -> Mapping[UUID, Burn]:
        """How fast those states burn that are open and of which it is known."""
        async with self.database.acting_for(user) as connection:
            rows = await connection.fetch(_SQL["burns"], list(states), user)
        return {state: Burn(rate, at) for state, rate, at in rows}

    def burning(self) -> AsyncGenerator[list[Burning], None]:
        """Every open state whose burn is known, some at a time."""
        return self.database.stream("burning", _SQL["burning"], lambda row: Burning(*row))

    async def history(
        self, user: str | None, state: UUID, first: datetime, last: datetime, points: int
    ) -> list[Sample] | None:
        """Samples by time, thinned to ``points`` at most; None: there is no such state."""
        async with self.database.acting_for(user) as connection:
            if not await connection.fetch(_SQL["state"], state, user):
                return None
            rows = await connection.fetch(_SQL["history"], state, first, last, points)
        return [Sample(*row) for row in rows]
