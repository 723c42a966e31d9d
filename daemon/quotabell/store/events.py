"""Usage events: each counted once, with the running sums that follow from them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import uuid4

from quotabell.aside import aside
from quotabell.domain import explain as explaining
from quotabell.domain.charging import Entry
from quotabell.domain.events import (
    KINDS,
    Key,
    Kinds,
    Outcome,
    Reduced,
    UsageEvent,
    neighbour_keys,
    outcomes,
    reduce_repeats,
)
from quotabell.domain.explain import Explained, Stored
from quotabell.errors import Refused
from quotabell.store.charges import Charged, charge
from quotabell.store.columns import Columns, in_parts
from quotabell.store.database import Connection, Database, Undone
from quotabell.store.partitions import Partitions
from quotabell.store.queries import load
from quotabell.store.quotas import QuotasInForce, keep_quotas
from quotabell.store.series import resolve
from quotabell.store.usage import CurrentState

_SQL = load("events")
_MIDNIGHT = 0x6D69646E69676874  # "midnight": the lock of batches that look under two days
_NO_COST = Decimal(0)
_BURN_WINDOW = timedelta(minutes=10)


class Total(NamedTuple):
    """A running sum as it is shown: of a user, provider and model, it never falls."""

    user_id: str
    provider: str
    model: str
    kinds: Kinds
    requests: int
    cost_usd: Decimal


class Counted(NamedTuple):
    """What became of each event of a batch, in its order; the sums and the open quota states
    that it changed, as they are now."""

    receipts: list[Outcome]
    totals: list[Total]
    states: list[CurrentState]
    late: set[str]  # ids of states whose use was of before the burn window


class _Change(NamedTuple):
    """What a stored or corrected event adds to the counters of its first report."""

    user_id: str
    provider: str
    model: str
    kinds: Kinds
    requests: int
    cost_usd: Decimal


@dataclass(frozen=True, slots=True)
class EventStore:
    database: Database
    quotas: QuotasInForce = field(default_factory=QuotasInForce)
    burn_window: timedelta = _BURN_WINDOW

    @property
    def days(self) -> Partitions:
        """The partitions of the events."""
        return Partitions(self.database, "usage_events", "day")

    async def report(self, batch: Sequence[UsageEvent]) -> Counted:
        """Count a batch of events, given in order of arrival, in one transaction.

        Every event's source is unique to its sender already. A day that lacks its partition
        gets it. Raises Refused, Conflict, Unavailable.
        """
        try:
            return await self._transaction(batch)
        except Refused:
            # Perhaps a day lacks its partition; what else was refused is refused again.
            await self._make_days_of(batch)
        return await self._transaction(batch)

    async def acceptable(self, batch: Sequence[UsageEvent]) -> bool:
        """Whether the database would take these events; nothing is stored."""
        try:
            async with self.database.transaction(self.database.ingest) as connection:
                await self._count(connection, batch)
                raise Undone
        except Undone:
            return True
        except Refused:
            return False

    async def _transaction(self, batch: Sequence[UsageEvent]) -> Counted:
        async with self.database.transaction(self.database.ingest) as connection:
            return await self._count(connection, batch)

    async def _make_days_of(self, batch: Sequence[UsageEvent]) -> None:
        """Make the partitions that a batch lacks."""
        now = self.database.clock.now()
        for day in sorted({(event.time or now).date() for event in batch}):
            await self.days.keep(day, day)

    async def _count(self, connection: Connection, batch: Sequence[UsageEvent]) -> Counted:
        await keep_quotas(connection)
        if any(event.cumulative for event in batch):
            return await self._count_series(connection, batch)
        return await self._count_events(connection, batch)

    async def _count_series(self, connection: Connection, batch: Sequence[UsageEvent]) -> Counted:
        """What cumulative series have not grown by says nothing that is not known."""
        settled = await resolve(connection, batch, self.database.clock.now())
        rest = [event for event in settled if event is not None]
        counted = await self._count_events(connection, rest) if rest else Counted([], [], [], set())
        receipts = iter(counted.receipts)
        return counted._replace(
            receipts=[Outcome.DUPLICATE if event is None else next(receipts) for event in settled]
        )

    async def _count_events(self, connection: Connection, batch: Sequence[UsageEvent]) -> Counted:
        size = len(batch)
        neighbours = await aside(size, neighbour_keys, batch)
        reduced = await aside(size, reduce_repeats, batch, await _stored(connection, neighbours))
        rows = await _insert(connection, reduced, self.database.clock.now())
        totals = await _add(connection, await aside(size, _sums, reduced, rows))
        charged = await self._charge(connection, list(rows.values()))
        return Counted(await aside(size, _outcomes, batch, reduced, rows), totals, *charged)

    async def _charge(self, connection: Connection, rows: Sequence[Any]) -> Charged:
        if not rows:
            return Charged([], set())
        quotas = await self.quotas.at(connection, rows[0]["in_force"])
        late = self.database.clock.now() - self.burn_window
        entries = await aside(len(rows), lambda: [_entry(row) for row in rows])
        return await charge(connection, entries, quotas, late)

    async def explain(self, batch: Sequence[UsageEvent]) -> list[Explained]:
        """What would become of each event of a batch if it came now; nothing is stored."""
        keys = explaining.keys(batch)
        columns = [[key[n] for key in keys] for n in range(3)]
        async with self.database.connection() as connection:
            quotas = await self.quotas.read(connection)
            rows = await connection.fetch(_SQL["known"], *columns)
        stored = {(row["source"], row["event_id"], row["day"]): _known(row) for row in rows}
        return explaining.explain(batch, stored, quotas.book, self.database.clock.now())

    def totals(self) -> AsyncGenerator[list[Total], None]:
        """Every running sum, some at a time. Raises Unavailable."""
        return self.database.stream("current_totals", _SQL["current_totals"], _total)


async def _stored(connection: Connection, keys: Sequence[Key]) -> set[Key]:
    """Which of the keys the database has; holds off other batches that ask for such keys."""
    if not keys:
        return set()
    await connection.execute(_SQL["midnight"], _MIDNIGHT)
    source, event_id, day = zip(*keys, strict=True)
    rows = await connection.fetch(_SQL["stored"], source, event_id, day)
    return {(row["source"], row["event_id"], row["day"]) for row in rows}


async def _insert(connection: Connection, reduced: Reduced, now: datetime) -> dict[int, Any]:
    """Write the events of a batch; the rows that are new or corrected, by their place in it."""
    places, parts = await aside(len(reduced.events), _columns, reduced, now)
    rows: list[Any] = []
    for columns in parts:
        rows += await connection.fetch(_SQL["insert"], *columns)
    return await aside(
        len(rows),
        lambda: {places[row["source"], row["event_id"], row["day"]]: row for row in rows},
    )


def _columns(reduced: Reduced, now: datetime) -> tuple[dict[Key, int], list[Columns]]:
    """Where each event of a batch stands in it, by its key, and the columns of their rows, in
    parts that are written one after the other."""
    places: dict[Key, int] = {}
    values: list[tuple[Any, ...]] = []
    for place, (event, key) in enumerate(zip(reduced.events, reduced.keys, strict=True)):
        at = event.time or now
        source, event_id, day = key or (event.source, event.id or str(uuid4()), at.date())
        places[source, event_id, day] = place
        values.append(
            (
                source,
                event_id,
                day,
                at,
                event.user_id,
                event.provider,
                event.model,
                *event.kinds,
                event.cost_usd,
            )
        )
    return places, in_parts(values, lambda row: row[:3])


def _outcomes(
    batch: Sequence[UsageEvent], reduced: Reduced, rows: Mapping[int, Any]
) -> list[Outcome]:
    return outcomes(batch, reduced, _before(reduced, rows))


def _before(reduced: Reduced, rows: Mapping[int, Any]) -> list[int | None]:
    """The total that each call had before the batch; None: it is new.

    A call whose row did not come back held at least what the batch says of it.
    """
    before: list[int | None] = []
    for place, event in enumerate(reduced.events):
        row = rows.get(place)
        if row is None:
            before.append(event.total)
        else:
            before.append(sum(_former(row)) if row["corrected"] else None)
    return before


def _former(row: Any) -> Kinds:
    return Kinds(*(row[f"prev_{kind}"] for kind in KINDS))


def _entry(row: Any) -> Entry:
    return Entry(
        (row["day"], row["source"], row["event_id"]),
        row["time"].astimezone(UTC),
        row["provider"],
        row["model"],
        row["user_id"],
        row["generation"],
        Kinds(*(row[kind] for kind in KINDS)),
        _former(row) if row["corrected"] else None,
    )


def _known(row: Any) -> Stored:
    return Stored(
        row["time"].astimezone(UTC),
        row["provider"],
        row["model"],
        row["user_id"],
        Kinds(*(row[kind] for kind in KINDS)),
    )


def _change(row: Any, requests: int) -> _Change:
    kinds = Kinds(*(row[kind] for kind in KINDS))
    cost: Decimal = row["cost_usd"] or _NO_COST
    if row["corrected"]:
        kinds = Kinds(*(new - old for new, old in zip(kinds, _former(row), strict=True)))
        cost -= row["prev_cost_usd"] or _NO_COST
        requests = 0
    return _Change(row["user_id"], row["provider"], row["model"], kinds, requests, cost)


_Sums = dict[tuple[str, str, str], list[Any]]


def _sums(reduced: Reduced, rows: Mapping[int, Any]) -> _Sums:
    """What the rows of a batch add to the running sums, by their key."""
    sums: _Sums = {}
    for place, row in rows.items():
        change = _change(row, reduced.events[place].requests)
        own = sums.setdefault(change[:3], [0] * len(KINDS) + [0, _NO_COST])
        for index, amount in enumerate((*change.kinds, change.requests, change.cost_usd)):
            own[index] += amount
    return sums


async def _add(connection: Connection, sums: _Sums) -> list[Total]:
    """Add to the running sums, one row a key."""
    if not sums:
        return []
    columns = zip(*((*key, *amounts) for key, amounts in sums.items()), strict=True)
    return [_total(row) for row in await connection.fetch(_SQL["totals"], *columns)]


def _total(row: Any) -> Total:
    user, provider, model, *kinds, requests, cost = row
    return Total(user, provider, model, Kinds(*map(int, kinds)), requests, cost)
