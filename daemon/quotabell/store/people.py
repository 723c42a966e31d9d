"""All that is known of one person: removed, or shown."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from quotabell.domain.digest import NAME_ROOM
from quotabell.domain.names import shown
from quotabell.errors import Conflict
from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("people")
_ROWS = 5_000  # of a transaction
_STATES = 200
_PAGES = 1_000  # of a table of events, in a transaction: some 40,000 rows
_TRIES = 20
_PAUSE = 0.25  # seconds before a transaction that met another one is repeated
_WITHIN = 60.0  # seconds for a statement; those about messages read all of the operators'
_BATCHES = 100  # of messages: what was changed is not found again
_READ_WITHIN = 600.0  # seconds for the next rows; events are read from their beginning to their end

SIMPLE = {
    "push_subscriptions": "subscriptions",
    "token_thresholds": "thresholds",
    "silences": "silences",
}
"""Tables and their statements; first of all what a message could go to."""
REST = {
    "notification_history": "history",
    "alerts": "alerts",
    "token_totals": "totals",
    "series_marks": "marks",
    "source_signals": "signals",
    "sources": "sources",
    "rearm_scopes": "scopes",
    "metric_users": "named",
}
SHOWN = {
    "usage_events": "show_events",
    "token_totals": "show_totals",
    "token_usage": "show_states",
    "usage_periods": "show_periods",
    "usage_samples": "show_samples",
    "alerts": "show_alerts",
    "notification_history": "show_history",
    "push_subscriptions": "show_subscriptions",
    "token_thresholds": "show_thresholds",
    "silences": "show_silences",
    "sources": "show_sources",
}

_NOBODY = ("somebody", "someone")  # stand where a name was, that is not the same
_CUT = 6  # characters that a name is never cut below

Note = Callable[[str, int], None]
"""Is told of a table and of how many rows were removed from it."""


@dataclass(frozen=True, slots=True)
class PeopleStore:
    """Every method raises Unavailable."""

    database: Database

    async def remove(self, user: str, note: Note) -> None:
        """Remove what is there of a person, in transactions of bounded size.

        What is reported meanwhile may stay: to be repeated until nothing was removed.
        """
        for table, query in SIMPLE.items():
            await self._some(table, query, user, note)
        await self._events(user, note)
        await self._states(user, note)
        await self._periods(user, note)
        await self._some("notification_history", "stale_history", user, note)
        await self._some("alerts", "stale_alerts", user, note)
        await self._mentions(user, note)
        for table, query in REST.items():
            await self._some(table, query, user, note)

    async def rows(self, user: str) -> AsyncIterator[tuple[str, str]]:
        """Everything about a person as of one moment: tables and rows as JSON."""
        async with self.database.transaction() as connection:
            # Whoever reads the answer may take their time.
            await connection.execute(
                "set transaction isolation level repeatable read, read only;"
                "set local idle_in_transaction_session_timeout = 0"
            )
            for table, query in SHOWN.items():
                cursor = await connection.cursor(_SQL[query], user, timeout=_READ_WITHIN)
                while found := await cursor.fetch(_ROWS // 10, timeout=_READ_WITHIN):
                    for row in found:
                        yield table, row[0]

    async def _some(self, table: str, query: str, user: str, note: Note) -> None:
        while removed := await self._count(query, user, _ROWS):
            note(table, removed)

    async def _mentions(self, user: str, note: Note) -> None:
        nobody = _NOBODY[user == _NOBODY[0]]
        patterns = _patterns(_mentions_of(user), r"[^[:alnum:]_]", r"[^[:alnum:]_]{0,3} [0-9.]+ %")
        await self._rename("mentions", note, nobody, _ROWS, *patterns)
        # There a quota stands between the name and the share, and a comma before the name.
        patterns = _patterns([user, user[: NAME_ROOM - 1] + "…"], ', |"', " |,|$")
        await self._rename("digests", note, nobody, _ROWS, *patterns, user)

    async def _rename(self, query: str, note: Note, *about: Any) -> None:
        for _ in range(_BATCHES):
            if not (changed := await self._count(query, *about)):
                return
            note("notification_history (a name in it)", changed)

    async def _events(self, user: str, note: Note) -> None:
        for day, pages in await self._read("days"):
            for first in range(0, pages + 1, _PAGES):
                places = (f"({first},0)", f"({first + _PAGES},0)")
                note("usage_events", await self._count("events", user, day, *places))

    async def _states(self, user: str, note: Note) -> None:
        while ids := [row["id"] for row in await self._read("states", user, _STATES)]:
            await self._samples(ids, note)
            removed = (await self._read("remove_states", ids))[0]
            note("token_usage", removed["states"])
            note("alerts", removed["alerts"])

    async def _periods(self, user: str, note: Note) -> None:
        while ids := [row["id"] for row in await self._read("periods", user, _STATES)]:
            await self._samples(ids, note)
            note("usage_periods", await self._count("remove_periods", user, ids))

    async def _samples(self, ids: Sequence[UUID], note: Note) -> None:
        while removed := await self._count("samples", ids, _ROWS):
            note("usage_samples", removed)

    async def _count(self, query: str, *about: Any) -> int:
        return int((await self._read(query, *about))[0][0])

    async def _read(self, query: str, *about: Any) -> list[Any]:
        """One statement, which is a transaction; again if it met another one."""
        for last in (*[False] * _TRIES, True):
            try:
                async with self.database.connection() as connection:
                    return list(await connection.fetch(_SQL[query], *about, timeout=_WITHIN))
            except Conflict:
                if last:
                    raise
                await asyncio.sleep(_PAUSE)
        raise AssertionError("unreachable")


def _mentions_of(user: str) -> Iterator[str]:
    """The name as messages have it: whole, or shortened to some width."""
    yield from dict.fromkeys([user, *(shown(user, width) for width in range(_CUT, len(user)))])


def _patterns(names: Iterable[str], before: str, behind: str) -> tuple[str, str]:
    """Find any of the names between others, in text and in JSON: regular expressions of
    Postgres."""
    listed = list(names)
    quoted = [json.dumps(name, ensure_ascii=False)[1:-1] for name in listed]
    return _pattern(listed, before, behind), _pattern(quoted, before, behind)


def _pattern(names: Iterable[str], before: str, behind: str) -> str:
    escaped = (re.sub(r"[!-/:-@\[-^`{-~]", r"\\\g<0>", name) for name in names)
    return rf"(^|{before})(?:{'|'.join(escaped)})(?={behind})"
