"""Thresholds that people set, beside those of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg

from quotabell.errors import QuotabellError, Refused
from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("thresholds")

Row = dict[str, Any]


class ThresholdExists(QuotabellError):
    """This scope has a threshold at that percentage already."""


class ThresholdsFull(QuotabellError):
    """This scope has 20 thresholds already, and no more are taken."""


@dataclass(frozen=True, slots=True)
class ThresholdStore:
    """``user`` None: all users' thresholds; else that user's, and reading also global ones.

    Every method raises Unavailable, and Refused for what the database cannot hold.
    """

    database: Database

    async def listed(
        self,
        user: str | None,
        provider: str | None,
        after: tuple[datetime, UUID] | None,
        limit: int,
    ) -> list[Row]:
        at, key = after or (None, None)
        return await self._fetch("listed", user, user, provider, at, key, limit)

    async def one(self, user: str | None, key: UUID) -> Row | None:
        return _first(await self._fetch("one", user, key, user))

    async def add(self, provider: str, user: str, percentage: float, active: bool) -> Row:
        """Raises ThresholdExists or ThresholdsFull."""
        try:
            row = _first(await self._fetch("add", None, provider, user, percentage, active))
        except Refused as error:
            if getattr(error.__cause__, "constraint_name", None) == "token_thresholds_of_scope":
                raise ThresholdsFull from None
            raise
        if row is None:
            raise ThresholdExists
        return row

    async def change(
        self, user: str | None, key: UUID, percentage: float | None, active: bool | None
    ) -> Row | None:
        """Raises ThresholdExists."""
        try:
            return _first(await self._fetch("change", user, key, user, percentage, active))
        except Refused as error:
            if isinstance(error.__cause__, asyncpg.UniqueViolationError):
                raise ThresholdExists from None
            raise

    async def remove(self, user: str | None, key: UUID) -> bool:
        return bool(await self._fetch("remove", user, key, user))

    async def _fetch(self, query: str, user: str | None, *args: Any) -> list[Row]:
        async with self.database.acting_for(user) as connection:
            return [dict(row) for row in await connection.fetch(_SQL[query], *args)]


def _first(rows: list[Row]) -> Row | None:
    return rows[0] if rows else None
