"""Quota states: written by batches of snapshots, read whole for ``/metrics``."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from quotabell.aside import aside
from quotabell.domain.usage import Key, Receipt, Snapshot, StoredState, plan, receipts
from quotabell.errors import Refused
from quotabell.store.columns import AT_ONCE, in_parts
from quotabell.store.database import Connection, Database, Undone
from quotabell.store.queries import load

_SQL = load("usage")


class CurrentState(NamedTuple):
    """A quota state that is open now."""

    id: str
    user_id: str
    quota: str
    provider: str
    model: str
    tokens_used: int
    token_limit: int | None
    percentage: float | None
    reported_at: datetime
    period_end: datetime | None
    unit: str = "tokens"

    @property
    def key(self) -> Key:
        """(user, quota, provider, model)."""
        return (self.user_id, self.quota, self.provider, self.model)


class Reported(NamedTuple):
    """The answers to a batch in its order, and the rows as they are now."""

    receipts: list[Receipt]
    states: list[StoredState]


@dataclass(frozen=True, slots=True)
class UsageStore:
    database: Database

    async def report(self, batch: Sequence[Snapshot]) -> Reported:
        """Commit a batch of snapshots, given in order of arrival, in one transaction.

        Raises Refused, Conflict, Unavailable.
        """
        now, size = self.database.clock.now(), len(batch)
        peaks, finals = await aside(size, plan, batch, now)
        if not peaks and size <= AT_ONCE:
            async with self.database.connection(self.database.ingest) as connection:
                stored = await _upsert(connection, finals)
            answers = await aside(size, receipts, batch, stored, now)
            return Reported(answers, list(stored.values()))
        async with self.database.transaction(self.database.ingest) as connection:
            first = await _upsert(connection, peaks) if peaks else {}
            stored = await _upsert(connection, finals)
        answered = stored | {
            key: stored[key]._replace(before=state.before) for key, state in first.items()
        }
        answers = await aside(size, receipts, batch, answered, now)
        return Reported(answers, list(stored.values()))

    async def acceptable(self, batch: Sequence[Snapshot]) -> bool:
        """Whether the database would take these snapshots; nothing is stored."""
        try:
            async with self.database.transaction(self.database.ingest) as connection:
                for wave in plan(batch, self.database.clock.now()):
                    if wave:
                        await _upsert(connection, wave)
                raise Undone
        except Undone:
            return True
        except Refused:
            return False

    def current(self) -> AsyncGenerator[list[CurrentState], None]:
        """Every open quota state, some at a time. Raises Unavailable."""
        return self.database.stream("current", _SQL["current"], lambda row: CurrentState(*row))


async def _upsert(connection: Connection, rows: Sequence[Snapshot]) -> dict[Key, StoredState]:
    records: list[Any] = []
    for columns in await aside(len(rows), in_parts, rows, _order):
        provider, model, used, limit, user, at, quota, unit, reset = columns
        records += await connection.fetch(
            _SQL["report"], user, quota, provider, model, used, limit, at, unit, reset
        )
    return await aside(len(records), _states, records)


def _order(row: tuple[Any, ...]) -> Key:
    return Snapshot(*row).key


def _states(records: Sequence[Any]) -> dict[Key, StoredState]:
    states = [StoredState(*record) for record in records]
    return {state.key: state for state in states}
