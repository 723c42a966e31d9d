"""Alerts as they are at present, for receivers that are told by level."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("feed")
_FIRST = UUID(int=0)


class AlertNow(NamedTuple):
    """An alert, and the words of its last message (None: there is none any more)."""

    id: UUID
    state_id: UUID
    kind: str
    status: str
    user_id: str
    quota: str
    provider: str
    model: str
    level: float
    tokens_used: int
    token_limit: int | None
    started_at: datetime
    ended_at: datetime | None
    subject: str
    title: str | None
    body: str | None
    text: str | None  # for operators
    told_at: datetime | None

    @property
    def percentage(self) -> float | None:
        return self.tokens_used * 100.0 / self.token_limit if self.token_limit else None


@dataclass(frozen=True, slots=True)
class FeedStore:
    """Every method raises Unavailable."""

    database: Database

    async def pages(self, ended_within: timedelta, size: int) -> AsyncIterator[list[AlertNow]]:
        """All alerts that fire, then those that ended lately, at most ``size`` at a time."""
        after: tuple[Any, ...] = (_FIRST, "")
        while page := await self._page("firing", *after, size):
            yield page
            after = (page[-1].state_id, page[-1].kind)
        after = (datetime(1970, 1, 1, tzinfo=UTC), _FIRST)
        while page := await self._page("ended", ended_within, *after, size):
            yield page
            after = (page[-1].ended_at, page[-1].id)

    async def present(self, alert: UUID) -> AlertNow | None:
        """What is true of an alert now: that which fires under its name, else itself."""
        page = await self._page("present", alert)
        return page[0] if page else None

    async def _page(self, query: str, *arguments: Any) -> list[AlertNow]:
        return [AlertNow(*row) for row in await self.database.fetch(_SQL[query], *arguments)]
