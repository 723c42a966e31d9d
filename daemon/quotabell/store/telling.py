"""What is yet to be put into words, and what the words need to know."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from quotabell.domain.events import Kinds
from quotabell.domain.facts import Audience, Unit
from quotabell.domain.quotas import QuotaBook
from quotabell.store import jsonb
from quotabell.store.database import Database
from quotabell.store.queries import load
from quotabell.store.quotas import QuotasInForce

_SQL = load("telling")
_BLOCKS = 64  # of 8 KiB: some 2,500 events
_CALLERS = 300


class Waiting(NamedTuple):
    """A notification that is yet to be turned into deliveries; ``mute``: it has no words.

    ``unit`` None: it is about no quota state, or this is gone.
    """

    id: UUID
    mute: bool
    kind: str
    transition: str
    level: float | None
    user: str
    data: dict[str, Any]
    state: str
    unit: Unit | None
    period_end: datetime | None
    burn: float | None
    now: datetime


class Used(NamedTuple):
    """What one user used of one model lately; ``seconds``: how far back that reaches."""

    user: str
    provider: str
    model: str
    kinds: Kinds
    requests: int
    seconds: float


class Worded(NamedTuple):
    """Words for a notification: those that the history shows, and those of each reader."""

    id: UUID
    title: str
    body: str
    words: Mapping[Audience, tuple[str, str, str]]  # title, body, text


@dataclass(frozen=True, slots=True)
class TellingStore:
    """Every method raises Unavailable."""

    database: Database
    _quotas: QuotasInForce = field(default_factory=QuotasInForce)

    @property
    def quotas(self) -> QuotaBook:
        """As they were when `waiting` last found something."""
        return self._quotas.now.book

    async def waiting(self, limit: int) -> list[Waiting]:
        """Up to ``limit`` notifications that have no deliveries yet, alerts first."""
        async with self.database.connection() as connection:
            rows = await connection.fetch(_SQL["waiting"], limit)
            if rows:
                await self._quotas.at(connection, rows[0]["generation"])
        return [_waiting(row) for row in rows]

    async def lately(self, users: Sequence[str], *, everybody: bool) -> list[Used]:
        """Who used what in the last hour: those users, and others if asked for."""
        rows = await self.database.fetch(_SQL["lately"], users, everybody, _BLOCKS, _CALLERS)
        return [_used(*row) for row in rows]

    async def word(self, worded: Sequence[Worded]) -> None:
        """Give them their words."""
        ids, titles, bodies = ([one[n] for one in worded] for n in range(3))
        words = [json.dumps(one.words) for one in worded]
        await self.database.execute(_SQL["word"], ids, titles, bodies, words)


def _waiting(row: Any) -> Waiting:
    data = jsonb.decoded(row["data"])
    known = {name: row[name] for name in Waiting._fields if name != "data"}
    return Waiting(**known, data=data if isinstance(data, dict) else {})


def _used(user: str, provider: str, model: str, *figures: Any) -> Used:
    *kinds, requests, since = figures
    seconds = 3600.0 if since is None else min(since, 3600.0)
    return Used(user, provider, model, Kinds(*map(int, kinds)), requests, seconds)
