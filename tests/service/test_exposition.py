"""What ``/metrics`` tells of usage while the database does not tell it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from quotabell.domain.events import Kinds
from quotabell.errors import Unavailable
from quotabell.log import configure
from quotabell.service import exposition, tables
from quotabell.service.chunks import Chunk
from quotabell.service.exposition import UsageExposition
from quotabell.service.tables import Content, QuotaTable
from quotabell.store.events import Total
from quotabell.store.samples import Burning
from quotabell.store.usage import StoredState
from tests.http.test_metrics import Burns, Levels, Sources, Unbounded
from tests.support.waiting import eventually

SUM = Total("", "p", "m", Kinds(1), 7, Decimal(0))


class States:
    """Nobody used anything."""

    async def current(self) -> AsyncIterator[list[StoredState]]:
        yield []


class Sums:
    """One sum, as long as the database answers."""

    def __init__(self) -> None:
        self.away = False
        self.failed = 0

    async def totals(self) -> AsyncIterator[list[Total]]:
        if self.away:
            self.failed += 1
            raise Unavailable("away")
        yield [SUM]


@pytest.fixture
def sums() -> Sums:
    return Sums()


@pytest.fixture
async def shown(sums: Sums, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[UsageExposition]:
    monkeypatch.setattr(exposition, "_WAIT", 0.2)
    monkeypatch.setattr(exposition, "REFRESH_EVERY", 0.01)
    made = UsageExposition(
        *(States(), sums, Burns(), Sources(), Levels(), Unbounded()),  # type: ignore[arg-type]
        configure().get_logger(),
    )
    refreshing = asyncio.create_task(made.run())
    yield made
    refreshing.cancel()


async def _text(shown: UsageExposition) -> str:
    return b"".join([chunk.text for chunk in await shown.render()]).decode()


async def test_before_the_first_refresh_no_part_of_the_sums_is_told_for_the_whole(
    shown: UsageExposition, sums: Sums
) -> None:
    sums.away = True
    shown.sums.patch([SUM])
    assert await _text(shown) == ""

    sums.away = False
    assert "quotabell_requests_total" in await eventually(lambda: _text(shown))


async def test_what_was_read_before_a_pause_is_never_told_after_it(
    shown: UsageExposition, sums: Sums, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile another replica may have told of more, and a sum would seem to fall."""
    assert "quotabell_requests_total" in await _text(shown)

    sums.away = True
    monkeypatch.setattr(exposition, "SCRAPED_WITHIN", 0.0)
    assert await _text(shown) == ""


async def test_what_was_read_a_moment_ago_is_told_when_the_database_stumbles_but_not_for_long(
    shown: UsageExposition, sums: Sums, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "quotabell_requests_total" in await _text(shown)

    sums.away = True
    await eventually(lambda: sums.failed > 1)
    assert "quotabell_requests_total" in await _text(shown)

    monkeypatch.setattr(exposition, "_STALE_AFTER", 0.0)
    failed = sums.failed
    await eventually(lambda: sums.failed > failed + 1)
    assert await _text(shown) == ""


async def test_what_did_not_change_since_the_last_scrape_is_neither_rendered_nor_packed_again(
    shown: UsageExposition,
) -> None:
    assert shown.at_once() is None  # nothing has been read yet
    before = {id(chunk): chunk for chunk in await shown.render()}
    assert len(before) == 4  # a heading each, of tokens and of requests

    same = shown.at_once()
    assert same is not None
    assert [id(chunk) for chunk in same] == list(before)

    shown.sums.patch([SUM._replace(requests=8)])
    changed = [chunk for chunk in shown.at_once() or () if id(chunk) not in before]
    assert [chunk.text.decode() for chunk in changed] == [
        'quotabell_requests_total{provider="p",model="m",user=""} 8\n'
    ]


async def test_a_scrape_in_the_middle_of_a_refresh_renders_nothing_without_a_break(
    sums: Sums, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 100,000 series that holds up all else for a tenth of a second."""
    monkeypatch.setattr(tables, "_OF_A_CHUNK", 1)  # so that no scrape is of few rows
    now, reading, scraped = datetime.now(UTC), asyncio.Event(), asyncio.Event()
    scraped.set()

    class Fires:
        """Two states burn, each time they are read at another rate."""

        reads = 0

        async def burning(self) -> AsyncIterator[list[Burning]]:
            self.reads += 1
            for user in ("a", "b"):
                yield [Burning("1", user, "q", "p", "m", 1, None, None, float(self.reads), now)]
                reading.set()
                await scraped.wait()

    shown = UsageExposition(
        *(States(), sums, Fires(), Sources(), Levels(), Unbounded()),  # type: ignore[arg-type]
        configure().get_logger(),
    )
    made: list[str] = []

    def make(text: str) -> Chunk:
        made.append(text)
        return Chunk(text)

    monkeypatch.setattr(tables, "Chunk", make)
    content = QuotaTable.content
    rendered: list[list[str]] = []

    def watched(table: QuotaTable[Burning]) -> Content:
        before = len(made)
        found = content(table)
        rendered.append(made[before:])
        return found

    monkeypatch.setattr(QuotaTable, "content", watched)
    refreshing = asyncio.create_task(shown.run())
    await shown.render()
    scraped.clear()
    reading.clear()
    await reading.wait()
    text = await _text(shown)
    refreshing.cancel()

    rates = [line.split()[-1] for line in text.splitlines() if "_burn_" in line and line[0] != "#"]
    assert rates == ["2.0", "1.0"]
    assert rendered
    assert not any(rendered)
