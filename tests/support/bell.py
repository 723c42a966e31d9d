"""Usage, thresholds and alerts of one database, by plain SQL."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg

from quotabell.store.queries import load
from tests.support.postgres import connected

_SQL = load("alerts")
_REPORT = """
insert into token_usage as t (user_id, provider, model, tokens_used, token_limit, period_end)
values ($1, $2, $3, $4, $5, $6)
on conflict (user_id, quota, provider, model, period_start) do update
    set tokens_used = excluded.tokens_used, token_limit = excluded.token_limit
returning id
"""
_TRANSITIONS = """
select h.transition, h.level, a.reason
from notification_history h left join alerts a on a.id = h.alert_id and h.transition = 'resolved'
where $1::uuid is null or h.data ->> 'stateId' = $1::uuid::text
order by h.created_at, h.alert_id, h.seq
"""


class Armed(NamedTuple):
    """At which percentages a state rings next, and eases."""

    alert_at: float
    resolve_at: float


class Bell:
    """One connection. What its statements warned of is in ``warnings``."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.connection = connection
        self.warnings: list[str] = []
        connection.add_log_listener(lambda _, message: self.warnings.append(str(message)))

    async def execute(self, sql: str, *args: Any) -> str:
        return await self.connection.execute(sql, *args)

    async def value(self, sql: str, *args: Any) -> Any:
        return await self.connection.fetchval(sql, *args)

    async def report(
        self,
        used: int,
        limit: int | None = 100,
        *,
        user: str = "",
        provider: str = "openai",
        model: str = "gpt-5",
        period_end: Any = None,
    ) -> UUID:
        """Write one quota state as psql would; its id."""
        state: UUID = await self.value(_REPORT, user, provider, model, used, limit, period_end)
        return state

    async def armed(self, state: UUID) -> Armed:
        sql = "select alert_at, resolve_at from token_usage where id = $1"
        return Armed(*(await self.connection.fetch(sql, state))[0])

    async def transitions(self, state: UUID | None = None) -> list[str]:
        """What was announced, in order: ``90`` for firing at 90 %, else the reason of the end."""
        rows = await self.connection.fetch(_TRANSITIONS, state)
        return [f"{r['level']:g}" if r["transition"] == "firing" else r["reason"] for r in rows]

    async def level(self, state: UUID) -> float | None:
        """The level of the firing alert."""
        sql = "select level from alerts where state_id = $1 and status = 'firing'"
        level: float | None = await self.value(sql, state)
        return level

    async def threshold(
        self, percentage: float, provider: str = "*", user: str = "", active: bool = True
    ) -> None:
        await self.execute(
            "insert into token_thresholds (provider, user_id, threshold_percentage, is_active)"
            " values ($1, $2, $3, $4)",
            *(provider, user, percentage, active),
        )

    async def settings(self, thresholds: list[float], hysteresis: float = 5) -> None:
        await self.execute(
            "update settings set default_thresholds = $1, hysteresis = $2", thresholds, hysteresis
        )

    async def rearm(self, batch: int = 5000) -> int:
        """Work off all scopes that can be; how many states that were."""
        states = 0
        while (done := await self.value(_SQL["rearm"], batch)) is not None:
            states += done
        return states

    async def ring_due(self, limit: int = 500) -> tuple[int, int, int]:
        """How many were due, tried and rung."""
        [row] = await self.connection.fetch(_SQL["ring_due"], limit, [])
        return row["due"], row["tried"], row["rung"]

    async def evaluate(self) -> None:
        """What a round does."""
        await self.rearm()
        await self.ring_due()
        await self.connection.fetch(_SQL["reannounce"], 500)
        await self.connection.fetch(_SQL["end_orphans"], 500)


@contextlib.asynccontextmanager
async def bell(dsn: str) -> AsyncIterator[Bell]:
    """A bell on a connection of its own, with nothing left to be compared anew."""
    async with connected(dsn) as connection:
        ready = Bell(connection)
        await ready.rearm()
        yield ready
