"""Adding usage events to quota states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, NamedTuple

from quotabell.aside import aside
from quotabell.domain import charging
from quotabell.domain.charging import Counter, Entry, InForce, Position, Sum
from quotabell.store.database import Connection
from quotabell.store.queries import load
from quotabell.store.usage import CurrentState

_SQL = load("charges")


class Charged(NamedTuple):
    """The states that are open now as they are after a batch, and the ids of those that were
    given late entries."""

    states: list[CurrentState]
    late: set[str]


async def charge(
    connection: Connection, entries: Sequence[Entry], quotas: InForce, late: datetime
) -> Charged:
    """Add what entries of this transaction weigh; those of before ``late`` are late.

    The transaction must have excluded a change of the quotas before it wrote the events.
    """
    if not quotas.book.quotas or not entries:
        return Charged([], set())
    size = len(entries)
    uncertain = await aside(size, charging.uncertain, entries, quotas)
    come_to = await _positions(connection, uncertain)

    def recounted(quota: str, position: Position) -> bool:
        done = come_to[quota]
        return done is None or position <= done

    def sums(of: Sequence[Entry]) -> dict[Counter, Sum]:
        return charging.sums(charging.charges(of, quotas, recounted))

    states = await add(connection, await aside(size, sums, entries))
    before = [entry for entry in entries if entry.at < late]
    delayed = {counter[:4] for counter in await aside(len(before), sums, before)}
    return Charged(states, {state.id for state in states if state.key in delayed})


async def _positions(connection: Connection, quotas: Sequence[str]) -> dict[str, Position | None]:
    """The last event that was counted again, by quota; None: all were."""
    if not quotas:
        return {}
    found: dict[str, Position | None] = {}
    for row in await connection.fetch(_SQL["positions"], quotas):
        # Nothing yet: before any event.
        done = (row["done_day"] or date.min, row["done_source"] or "", row["done_event"] or "")
        found[row["name"]] = done if row["phase"] == "recount" else None
    return found


async def add(connection: Connection, sums: Mapping[Counter, Sum]) -> list[CurrentState]:
    """Add sums to their states; the ones that are open now as they are then."""
    if not sums:
        return []
    more = {counter: added for counter, added in sums.items() if added.amount >= 0}
    less = {counter: added for counter, added in sums.items() if added.amount < 0}
    if less:
        await connection.execute(_SQL["hold"], *zip(*sums, strict=True))
    rows: list[Any] = []
    if more:
        columns = zip(
            *((*counter, s.period_end, s.amount, s.limit) for counter, s in more.items()),
            strict=True,
        )
        rows += await connection.fetch(_SQL["charge"], *columns)
    if less:
        rows += await _reduce(connection, less)
    return [CurrentState(*row[:-1]) for row in rows if row["open"]]


async def _reduce(connection: Connection, less: Mapping[Counter, Sum]) -> list[Any]:
    """Take from states, closed ones that were moved first: of a period that was, a late event may
    have begun another state, which holds only itself. The present ones as they are then."""
    moved = {Counter(*row) for row in await _take(connection, "reduce_moved", less)}
    present = {counter: added for counter, added in less.items() if counter not in moved}
    return await _take(connection, "reduce", present)


async def _take(connection: Connection, query: str, less: Mapping[Counter, Sum]) -> list[Any]:
    if not less:
        return []
    columns = zip(*((*counter, -added.amount) for counter, added in less.items()), strict=True)
    rows: list[Any] = await connection.fetch(_SQL[query], *columns)
    return rows
