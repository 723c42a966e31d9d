"""The quotas in force for all replicas, and the work that makes quota states follow them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from quotabell.config.quotas import Quota as QuotaSection
from quotabell.domain.charging import (
    Counter,
    Entry,
    InForce,
    Standing,
    Sum,
    charges,
    sums,
)
from quotabell.domain.events import KINDS, Kinds
from quotabell.domain.periods import Period
from quotabell.domain.quotas import Quota, QuotaBook, quota_of
from quotabell.store.charges import add
from quotabell.store.database import Connection, Database
from quotabell.store.following import finish, follow
from quotabell.store.queries import load

_SQL = load("quotas")
_LOCK = 0x71756F74617300  # "quotas": shared by who counts, exclusive to who changes quotas


class Definition(NamedTuple):
    """A configured quota; ``counted_from`` is the start of the first period to be complete."""

    section: QuotaSection
    quota: Quota
    counted_from: datetime


class Work(NamedTuple):
    """A quota whose states do not follow it yet."""

    quota: str
    phase: str  # recount, settle, removed


def quota_in(section: QuotaSection) -> Quota:
    """The quota that a section of the configuration means."""
    return quota_of(**section.values())


class QuotasInForce:
    """A replica's memory of the quotas in force, read again whenever they have changed."""

    def __init__(self) -> None:
        self.now = InForce(0, QuotaBook([]), {})

    async def at(self, connection: Connection, generation: int) -> InForce:
        """The quotas of ``generation``, which is the present one of this transaction."""
        if self.now.generation != generation:
            await self.read(connection)
        return self.now

    async def read(self, connection: Connection) -> InForce:
        """The present ones."""
        rows = await connection.fetch(_SQL["in_force"])
        named = [row for row in rows if row["name"] is not None]
        quotas = [_quota(row) for row in named]
        self.now = InForce(
            rows[0]["in_force"],
            QuotaBook(quotas),
            {
                row["name"]: Standing(
                    row["generation"], row["counted_from"], row["phase"] == "recount"
                )
                for row in named
            },
        )
        return self.now


async def keep_quotas(connection: Connection) -> None:
    """Exclude a change of the quotas until the transaction ends."""
    await connection.execute(_SQL["share"], _LOCK)


@dataclass(frozen=True, slots=True)
class QuotaStore:
    """Every method is one transaction and raises Unavailable, or Conflict."""

    database: Database

    async def put(self, wanted: Sequence[Definition]) -> bool:
        """Bring these and no other quotas into force; whether something changed."""
        async with self.database.transaction() as connection:
            if not _changes(wanted, await connection.fetch(_SQL["known"])):
                return False
            await connection.execute(_SQL["change"], _LOCK)
            known = {row["name"]: row for row in await connection.fetch(_SQL["known"])}
            generation = await connection.fetchval(_SQL["advance"])
            for definition in wanted:
                await _put(connection, definition, known.get(definition.quota.name), generation)
            await connection.fetch(_SQL["remove"], [d.quota.name for d in wanted])
        return True

    async def in_force(self) -> InForce:
        """The quotas that hold now."""
        async with self.database.connection() as connection:
            return await QuotasInForce().read(connection)

    async def keep_periods(
        self, periods: Callable[[InForce], Iterable[tuple[str, Period]]]
    ) -> None:
        """Have just these periods of the quotas in force."""
        async with self.database.transaction() as connection:
            await keep_quotas(connection)
            wanted = periods(await QuotasInForce().read(connection))
            found = [(name, *period) for name, period in wanted]
            columns = [[row[n] for row in found] for n in range(3)]
            await connection.execute(_SQL["drop_periods"], *columns)
            await connection.execute(_SQL["keep_periods"], *columns)

    async def count_again(self, names: Sequence[str] | None = None) -> list[str]:
        """Have quotas counted anew, None: all; which there are of them."""
        async with self.database.transaction() as connection:
            await connection.execute(_SQL["change"], _LOCK)
            generation = await connection.fetchval(_SQL["advance"])
            rows = await connection.fetch(_SQL["recount_again"], names, generation)
        return [row["name"] for row in rows]

    async def at_work(self) -> list[Work]:
        """The quotas whose states do not follow them yet, the longest first."""
        return [Work(*row) for row in await self.database.fetch(_SQL["at_work"])]

    async def recount(self, name: str, batch: int) -> bool:
        """Add the next ``batch`` events to a quota that is counted anew; whether it was there.

        False: the quota is counted. Raises Busy if somebody holds what it needs.
        """
        async with self.database.transaction() as connection:
            await connection.execute(_SQL["patience"])
            row = await connection.fetchrow(_SQL["recounting"], name)
            if row is None:
                return False
            found = await _weigh_again(connection, row, batch)
            if found is None:
                await connection.execute(_SQL["counted"], name)
            else:
                await connection.execute(_SQL["recounted"], name, *found.done)
                # Last: reports wait for these rows until the end.
                await add(connection, found.sums)
        return True

    async def settle(self, name: str, batch: int) -> bool:
        """Let the next ``batch`` states of a quota follow its limit and thresholds, delete
        those that are not its own any more; whether the quota was there to be worked on.

        Raises Busy if somebody holds what it needs.
        """
        async with self.database.transaction() as connection:
            await connection.execute(_SQL["patience"])
            row = await connection.fetchrow(_SQL["settling"], name)
            if row is None:
                return False
            await connection.execute(_SQL["marked"], "on" if row["seeding"] else "off")
            quota = None if row["phase"] == "removed" else _quota(row)
            last = await follow(connection, row, quota, batch)
            if last is None:
                await finish(connection, row)
            else:
                key = [last["user_id"], name, last["provider"], last["model"]]
                await connection.execute(_SQL["settled"], name, key, last["period_start"])
        return True


def _quota(row: Any) -> Quota:
    return quota_in(QuotaSection.model_validate(json.loads(row["definition"])))


def _changes(wanted: Sequence[Definition], known: Sequence[Any]) -> bool:
    held = {row["name"]: row for row in known if row["phase"] != "removed"}
    return held.keys() != {d.quota.name for d in wanted} or any(
        _stored(d) != json.loads(held[d.quota.name]["definition"]) for d in wanted
    )


def _stored(definition: Definition) -> dict[str, Any]:
    return definition.section.model_dump(mode="json")


async def _put(connection: Connection, definition: Definition, known: Any, generation: int) -> None:
    quota, stored = definition.quota, _stored(definition)
    thresholds = None if quota.thresholds is None else list(quota.thresholds)
    mirrored = (quota.name, json.dumps(stored))
    if known is None or known["phase"] == "removed" or known["fingerprint"] != quota.fingerprint:
        await connection.execute(_SQL["forget_periods"], quota.name)
        await connection.execute(
            _SQL["define"],
            *mirrored,
            quota.fingerprint,
            thresholds,
            list(quota.notify),
            generation,
            definition.counted_from,
        )
    elif json.loads(known["definition"]) != stored:
        await connection.execute(_SQL["adjust"], *mirrored, thresholds, list(quota.notify))


class _Weighed(NamedTuple):
    """Events counted again: the position of the last, and what they add to counters."""

    done: tuple[date, str, str]
    sums: dict[Counter, Sum]


async def _weigh_again(connection: Connection, row: Any, batch: int) -> _Weighed | None:
    """The next events of a quota; None: there are no more."""
    quota = _quota(row)
    days = _Days(row)
    while days.day <= row["last_day"]:
        events = await connection.fetch(
            _SQL["events"],
            days.day,
            days.source,
            days.event,
            row["generation"],
            row["counted_from"],
            batch,
        )
        if events:
            # Reports of usage are answered meanwhile.
            of_batch = (quota, row["generation"], days.day, events)
            sums = await asyncio.to_thread(_weighed, *of_batch)
            return _Weighed((days.day, events[-1]["source"], events[-1]["event_id"]), sums)
        days.next()
    return None


def _weighed(quota: Quota, generation: int, day: date, events: Sequence[Any]) -> dict[Counter, Sum]:
    entries = [_entry(event, day) for event in events]
    return sums(charges(entries, InForce(generation, QuotaBook([quota]), {}), _never))


class _Days:
    """Where counting again goes on: within a day after an event, or at the start of a day."""

    def __init__(self, row: Any) -> None:
        self.day: date = row["done_day"] or row["first_day"]
        self.source: str = row["done_source"] or ""
        self.event: str = row["done_event"] or ""

    def next(self) -> None:
        self.day += timedelta(days=1)
        self.source = self.event = ""


def _never(quota: str, position: tuple[date, str, str]) -> bool:
    return False


def _entry(event: Any, day: date) -> Entry:
    return Entry(
        (day, event["source"], event["event_id"]),
        event["time"].astimezone(UTC),
        event["provider"],
        event["model"],
        event["user_id"],
        0,
        Kinds(*(event[kind] for kind in KINDS)),
    )
