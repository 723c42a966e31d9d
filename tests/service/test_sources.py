"""Who reports: counted beside the reports, written in the background, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from quotabell import log
from quotabell.errors import FieldError, Malformed, Rejected, Unavailable
from quotabell.service.sources import Sources
from quotabell.store.database import Database
from quotabell.store.sources import BOUND, OTHER, ListedSource, Source, SourceStore

LOG = log.configure("error").get_logger()
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
FIELDS = frozenset({"provider", "model"})


@pytest_asyncio.fixture
async def store(any_dsn: str) -> AsyncIterator[SourceStore]:
    database = Database(any_dsn, pool_size=4, prepared_statements=True, log=LOG)
    await database.open()
    yield SourceStore(database)
    await database.close()


def counting(store: Any, now: datetime = NOON) -> Sources:
    return Sources(store, lambda: now, LOG)


async def listed(store: SourceStore, user: str | None = None) -> dict[str, ListedSource]:
    return {source.name: source for source in await store.listed(user)}


class Away:
    """A store whose database is away until ``back``."""

    def __init__(self, store: SourceStore) -> None:
        self._store = store
        self.back = False

    async def add(self, counts: Any) -> None:
        if not self.back:
            raise Unavailable
        await self._store.add(counts)


async def test_what_came_is_added_up(store: SourceStore) -> None:
    sources = counting(store)
    sources.took(Source("apps", "", "update"), 2)
    sources.took(Source("apps", "", "events", "checkout"), 3)
    await sources.flush()
    later = counting(store, NOON + timedelta(hours=1))
    later.took(Source("apps", "", "update"), 5)
    later.refused(Source("apps", "", "events"), 1, Malformed(), FIELDS)
    await later.flush()
    await later.flush()

    found = await listed(store)
    assert found.keys() == {"apps/update", "apps/events", "apps/events/checkout"}
    update, events = found["apps/update"], found["apps/events"]
    assert (update.kind, update.events, update.rejected) == ("update", 7, 0)
    assert update.last_event_at == NOON + timedelta(hours=1)
    assert (update.last_rejected_at, update.last_error) == (None, None)
    assert (events.events, events.last_event_at, events.rejected) == (0, None, 1)
    assert events.last_rejected_at == NOON + timedelta(hours=1)
    assert events.last_error == "The body is not what its type says."


async def test_an_older_count_of_another_replica_moves_no_time_back(store: SourceStore) -> None:
    source = Source("apps", "", "update")
    for at, error in ((NOON, Malformed()), (NOON - timedelta(hours=1), Rejected([]))):
        sources = counting(store, at)
        sources.took(source, 1)
        sources.refused(source, 1, error, FIELDS)
        await sources.flush()

    [found] = await store.listed(None)
    assert (found.events, found.last_event_at) == (2, NOON)
    assert (found.last_rejected_at, found.last_error) == (
        NOON,
        "The body is not what its type says.",
    )


async def test_an_error_tells_nothing_of_its_body(store: SourceStore) -> None:
    sources = counting(store)
    errors = [
        FieldError("provider", "secret-1 is no provider", 0),
        FieldError("secret-2", "is not known", 1),
    ]
    sources.refused(Source("apps", "", "events"), 2, Rejected(errors), FIELDS)
    sources.refused(Source("apps", "", "update"), 1, Malformed("broken: secret-3"), FIELDS)
    await sources.flush()

    told = {source.last_error for source in await store.listed(None)}
    assert told == {
        "The request holds values that cannot be accepted: provider",
        "The body is not what its type says.",
    }


@pytest.mark.parametrize("at_once", [1, 50])
async def test_names_are_bounded_whoever_makes_them_up(store: SourceStore, at_once: int) -> None:
    async def flood(sender: str) -> None:
        sources = counting(store)
        for n in range(1500):
            sources.took(Source(sender, "ada", "events", f"made up {n}"), 1)
            if n % (1500 // at_once) == 0:
                await sources.flush()
        await sources.flush()

    await counting_one(store)
    await asyncio.gather(flood("one"), flood("two"))
    await counting_one(store)

    found = await listed(store)
    assert len(found) == BOUND + 1
    assert sum(source.events for source in found.values()) == 3002
    assert found["steady/update"].events == 2
    assert (found[OTHER].kind, found[OTHER].user_id) == (OTHER, "")
    assert found[OTHER].events >= 2001


async def counting_one(store: SourceStore) -> None:
    sources = counting(store)
    sources.took(Source("steady", "", "update"), 1)
    await sources.flush()


async def test_while_the_database_is_away_counts_wait(store: SourceStore) -> None:
    away = Away(store)
    sources = counting(away)
    sources.took(Source("apps", "", "update"), 1)
    with pytest.raises(Unavailable):
        await sources.flush()
    sources.took(Source("apps", "", "update"), 2)
    await sources.close()
    assert await store.listed(None) == []
    away.back = True

    await sources.close()

    assert (await listed(store))["apps/update"].events == 3


async def test_a_user_sees_the_own_sources_only(store: SourceStore) -> None:
    sources = counting(store)
    for user in ("ada", "bob", ""):
        sources.took(Source(f"token-of-{user}", user, "update"), 1)
    await sources.flush()

    assert (await listed(store, "ada")).keys() == {"token-of-ada/update"}
    async with store.database.acting_for("bob") as bob:
        rows = await bob.fetch("select name from sources")
    assert [row["name"] for row in rows] == ["token-of-bob/update"]
