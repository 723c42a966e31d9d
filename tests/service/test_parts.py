"""A table that is read again and again shows what is stored, and commits at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quotabell.domain.exposition import Family
from quotabell.service import parts
from quotabell.service.parts import Part
from quotabell.service.tables import Table

FAMILY = (Family("one", "First."),)
Row = tuple[str, int]
rows = st.tuples(st.sampled_from("abcd"), st.integers(1, 9))
stored = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 9))
commits = st.lists(rows, max_size=3)


def _part(basis: list[object]) -> Part[Row]:
    return Part(
        lambda: Table(FAMILY, lambda row: (row[0],), lambda row: (f"{row[0]} {row[1]}\n",)),
        lambda: basis[0],
    )


async def _caught_up(part: Part[Row]) -> None:
    async with part.settled():
        pass


def _shown(part: Part[Row]) -> dict[str, int]:
    lines = b"".join(chunk.text for _, chunks in part.content() for chunk in chunks).decode()
    return {name: int(value) for name, value in map(str.split, lines.splitlines())}


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(stored, commits, commits, st.booleans(), st.booleans()), max_size=4))
def test_after_a_refresh_what_was_read_stands_there_but_for_what_was_committed_meanwhile(
    steps: list[tuple[dict[str, int], list[Row], list[Row], bool, bool]],
) -> None:
    """``steps``: what is read; commits before it and while it is read; whether a scrape comes in
    between, and whether the table is made anew."""
    asyncio.run(_follow(steps))


async def _follow(steps: list[tuple[dict[str, int], list[Row], list[Row], bool, bool]]) -> None:
    basis: list[object] = [0]
    part = _part(basis)
    for there, before, meanwhile, scraped, anew in steps:
        part.patch(before)
        basis[0] = object() if anew else basis[0]

        async def read(
            there: dict[str, int] = there, meanwhile: list[Row] = meanwhile, scraped: bool = scraped
        ) -> AsyncGenerator[list[Row], None]:
            items = list(there.items())
            yield items[:1]
            part.patch(meanwhile)
            if scraped:
                await _caught_up(part)
            yield items[1:]

        await part.refresh(read())
        await _caught_up(part)
        assert _shown(part) == there | dict(meanwhile)
        assert part.series == len(there | dict(meanwhile))


async def test_what_is_read_again_unchanged_stays_rendered_and_compressed() -> None:
    part = _part([0])

    async def read(*rows: Row) -> AsyncGenerator[list[Row], None]:
        yield list(rows)

    await part.refresh(read(("a", 1), ("b", 2)))
    ((_, before),) = part.content()
    await part.refresh(read(("b", 2), ("a", 1)))
    ((_, after),) = part.content()
    assert [id(chunk) for chunk in after] == [id(chunk) for chunk in before]

    await part.refresh(read(("b", 2)))
    assert _shown(part) == {"b": 2}


async def test_a_read_that_fails_leaves_what_is_there_and_is_closed() -> None:
    part = _part([0])
    closed = asyncio.Event()

    async def read(*, broken: bool) -> AsyncGenerator[list[Row], None]:
        try:
            yield [("a", 1)]
            if broken:
                raise ConnectionError
            yield [("b", 2)]
        finally:
            closed.set()

    await part.refresh(read(broken=False))
    closed.clear()
    with pytest.raises(ConnectionError):
        await part.refresh(read(broken=True))
    assert closed.is_set()
    assert _shown(part) == {"a": 1, "b": 2}


@pytest.mark.parametrize("anew", [True, False])
async def test_what_is_removed_after_it_was_read_is_gone_when_the_refresh_is_over(
    anew: bool,
) -> None:
    basis: list[object] = [0]
    part = _part(basis)

    async def read() -> AsyncGenerator[list[Row], None]:
        yield [("a", 1), ("b", 2)]
        part.forget(("a",))

    basis[0] = object() if anew else 0
    await part.refresh(read())
    assert _shown(part) == {"b": 2}


async def test_what_is_removed_while_a_scrape_takes_commits_in_is_not_shown_by_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(parts, "_AT_A_TIME", 1)
    part = _part([0])
    part.patch([("a", 1), ("b", 2)])
    scrape = asyncio.create_task(_caught_up(part))
    await asyncio.sleep(0)
    assert part.series == 1
    part.forget(("a",))
    part.forget(("b",))
    await scrape
    assert _shown(part) == {}


@pytest.mark.parametrize("anew", [True, False])
async def test_what_a_scrape_shows_holds_all_commits_and_stays_while_the_scrape_lasts(
    anew: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every step of a refresh: nothing is then left to be rendered without a break."""
    monkeypatch.setattr(parts, "_AT_A_TIME", 1)
    basis: list[object] = [0]
    part = _part(basis)
    part.patch([(name, 1) for name in "abcd"])
    await _caught_up(part)
    basis[0] = object() if anew else 0

    async def read() -> AsyncGenerator[list[Row], None]:
        yield [("a", 2), ("b", 2)]
        part.patch([("a", 3)])
        yield [("c", 2)]

    refreshing = asyncio.create_task(part.refresh(read()))
    seen = [1]
    while not refreshing.done():
        async with part.settled():
            ((_, before),) = part.content()
            seen.append(_shown(part)["a"])
            await _steps(5)
            ((_, after),) = part.content()
            assert [id(chunk) for chunk in after] == [id(chunk) for chunk in before]
        await _steps(1)
    assert seen == sorted(seen)
    assert seen[-1] == 3
    await _caught_up(part)
    assert _shown(part) == {"a": 3, "b": 2, "c": 2}


async def _steps(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_no_step_of_a_refresh_frees_more_than_a_few_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A million at once would hold the event loop for half a second."""
    monkeypatch.setattr(parts, "_AT_A_TIME", 2)
    freed = [0]

    class Name(str):
        def __del__(self) -> None:
            freed[-1] += 1

    part: Part[Row] = Part(
        lambda: Table(FAMILY, lambda row: (Name(row[0]),), lambda row: (f"{row[0]} {row[1]}\n",))
    )

    async def read() -> AsyncGenerator[list[Row], None]:
        yield [(f"row{n}", 1) for n in range(40)]

    await part.refresh(read())
    freed[:] = [0]
    with _at_each_step(lambda: freed.append(0)):
        await part.refresh(read())
    assert sum(freed) >= 80
    assert max(freed) <= 8


@contextlib.contextmanager
def _at_each_step(call: Callable[[], None]) -> Iterator[None]:
    """Once in each round of the event loop."""
    going = True

    def step() -> None:
        if going:
            call()
            asyncio.get_running_loop().call_soon(step)

    step()
    yield
    going = False
