"""Which users have series of their own in ``/metrics``, as all replicas know it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from datetime import datetime

from quotabell.aside import aside
from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("folds")
_AT_A_TIME = 2_000  # users of one statement: there may be as many as quota states


@dataclass(frozen=True, slots=True)
class FoldStore:
    """Every method raises Unavailable."""

    database: Database

    async def generation(self) -> int:
        """How often users were folded; 0: never, everybody has series."""
        rows = await self.database.fetch(_SQL["generation"])
        return int(rows[0]["generation"])

    async def named(self) -> Set[str]:
        """Who has series of their own once users were folded."""
        found: set[str] = set()
        users = self.database.stream("named", _SQL["named"], lambda row: str(row["user_id"]))
        async with contextlib.aclosing(users):
            async for page in users:
                found.update(page)
        return found

    async def keep(self, generation: int, users: Mapping[str, int], room: int) -> int | None:
        """Of ``users`` with so many series each, name only those who came first and fit; how many.

        None, and nothing happens, if others have decided since ``generation``.
        """
        size = len(users)
        everybody = await aside(size, _pages, users)
        async with self.database.transaction() as connection:
            if not await connection.fetch(_SQL["next"], generation):
                return None
            came: dict[str, datetime] = {}
            for page in everybody:
                rows = await connection.fetch(_SQL["came"], page)
                came |= {row["user_id"]: row["at"] for row in rows}
            kept = await aside(size, _first, users, came, room)
            if generation == 0:
                query, whom = "name", await aside(size, _pages, kept)
            else:
                query, whom = "fold", await aside(size, lambda: _pages(users.keys() - kept))
            for page in whom:
                await connection.execute(_SQL[query], page)
        return len(kept)


def _first(users: Mapping[str, int], came: Mapping[str, datetime], room: int) -> set[str]:
    """Those who came first and fit together; of whom nothing is stored, last."""
    kept: set[str] = set()
    for user in sorted(users, key=lambda user: (user not in came, came.get(user), user)):
        room -= users[user]
        if room < 0:
            break
        kept.add(user)
    return kept


def _pages(users: Iterable[str]) -> list[list[str]]:
    ordered = sorted(users)
    return [ordered[n : n + _AT_A_TIME] for n in range(0, len(ordered), _AT_A_TIME)]
