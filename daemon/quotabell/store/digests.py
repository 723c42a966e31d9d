"""Digests: what they say, and for how long they wait for more."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from quotabell.domain import digest
from quotabell.store.database import Connection, Database
from quotabell.store.queries import load

_SQL = load("digests")

LINGER = timedelta(seconds=2)  # for which one waits at a time while more is about to ring
LINGER_AT_MOST = timedelta(seconds=30)


class Closed(NamedTuple):
    """A delivery that ended unsent: expired, suppressed or superseded."""

    channel: str
    status: str


async def word(connection: Connection, digests: set[UUID]) -> tuple[list[Closed], set[UUID]]:
    """Write what digests say now; what ended because they have nothing left to say."""
    closed: list[Closed] = []
    needless: set[UUID] = set()
    if not digests:
        return closed, needless
    rows = await connection.fetch(_SQL["members"], sorted(digests), digest.LISTED)
    for row in rows:
        if not row["members"]:
            gone = await connection.fetch(_SQL["dissolve"], row["id"])
            closed += [Closed(one["channel"], "superseded") for one in gone]
            needless.add(row["id"])
            continue
        words = digest.compose(
            row["kind"],
            ends=row["ends"],
            number=row["members"],
            worst=json.loads(row["worst"]),
            named=row["named"],
        )
        replaces = {"replaces": str(row["replaces"])} if row["replaces"] else {}
        data = json.dumps(words.data | replaces)
        await connection.execute(
            _SQL["word"], row["id"], words.title, words.body, words.level, data
        )
    return closed, needless


async def linger(connection: Connection) -> None:
    """Let digests wait as long as there is more for them to come."""
    await connection.execute(_SQL["linger"], LINGER, LINGER_AT_MOST)


async def resume(database: Database) -> list[Any]:
    """Let go what waited for a delivery that has ended; each with what it is now."""
    rows: list[Any] = await database.fetch(_SQL["resume"])
    return rows
