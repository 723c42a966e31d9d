"""Whether quota states are what their events add up to."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from quotabell.domain.charging import Counter, InForce
from quotabell.domain.events import KINDS, Kinds
from quotabell.domain.usage import BIGINT_MAX
from quotabell.store.database import Connection, Database
from quotabell.store.queries import load
from quotabell.store.quotas import QuotasInForce

_SQL = load("audit")
_AT_A_TIME = 2_000
_PATIENCE = 600.0  # seconds for all states: nobody waits, and a million take longer than a request


class Difference(NamedTuple):
    """A counter that does not hold what its events weigh; None: there is no such state."""

    counter: Counter
    stored: int | None
    counted: int


class Audit(NamedTuple):
    """What was found for the periods that are open: how many states were compared, which differ,
    and the quotas that were left out because they are being counted anew."""

    states: int
    differences: list[Difference]
    under_way: list[str]


async def audit(database: Database) -> Audit:
    """Count the events of the open periods and compare, as of one moment.

    Takes as long as reading those events does; nobody waits for it. Raises Unavailable.
    """
    async with database.connection() as connection:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            now = await connection.fetchval(_SQL["now"])
            quotas = await QuotasInForce().read(connection)
            under_way = [name for name, s in quotas.standings.items() if s.recounting]
            counted = await _count(connection, quotas, now.astimezone(UTC))
            stored = {
                Counter(*row[:-1]): row["tokens_used"]
                for row in await connection.fetch(_SQL["states"], timeout=_PATIENCE)
            }
    differences = [
        Difference(counter, stored.get(counter), min(counted[counter], BIGINT_MAX))
        for counter in sorted({*counted, *stored})
        if counter.quota not in under_way
        and (counter.quota in quotas.standings or stored[counter])
        and stored.get(counter) != min(counted[counter], BIGINT_MAX)
    ]
    compared = sum(counter.quota not in under_way for counter in stored)
    return Audit(compared, differences, under_way)


async def _count(connection: Connection, quotas: InForce, now: datetime) -> Tally[Counter]:
    """What the events of open periods weigh, by counter."""
    counted: Tally[Counter] = Tally()
    starts = [quotas.book.period(quota.name, now).start for quota in quotas.book.quotas]
    if not starts:
        return counted
    async for row in _rows(connection, min(starts)):
        kinds = Kinds(*(row[kind] for kind in KINDS))
        caller = row["provider"], row["model"], row["user_id"]
        for charge in quotas.book.charges(*caller, kinds, row["time"].astimezone(UTC)):
            if charge.period_end > now:
                counter = Counter(
                    charge.user_id, charge.quota, charge.provider, charge.model, charge.period_start
                )
                counted[counter] += charge.amount
    return counted


async def _rows(connection: Connection, since: datetime) -> AsyncIterator[Any]:
    async for row in connection.cursor(
        _SQL["events"], since, prefetch=_AT_A_TIME, timeout=_PATIENCE
    ):
        yield row
