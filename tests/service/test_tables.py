"""What is rendered ahead is always what is there now."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quotabell.domain.exposition import Family
from quotabell.service import tables
from quotabell.service.chunks import Chunk, gzipped
from quotabell.service.tables import Table

FAMILIES = (Family("one", "First."), Family("two", "Second.", "counter"))
Row = tuple[str, int, int]
"""A key, and how many lines in each family."""

rows = st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 2), st.integers(0, 1))
steps = st.lists(
    rows | st.sampled_from("abcdefgh") | st.sampled_from(["tidy", "pack", "read", "sweep"])
)


def _lines(row: Row) -> tuple[str, ...]:
    return tuple(f"{row[0]} {row[1]}\n" * count for count in row[1:])


@settings(max_examples=35, deadline=None)
@given(steps)
def test_after_any_changes_the_text_and_its_packing_are_of_what_is_there(
    done: list[Row | str],
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tables, "_OF_A_CHUNK", 3)
        asyncio.run(_follow(done))


async def _follow(done: list[Row | str]) -> None:
    table: Table[Row] = Table(FAMILIES, lambda row: (row[0],), _lines, lambda key: str(key[0]))
    there: dict[str, Row] = {}
    for step in [*done, "read"]:
        match step:
            case "tidy":
                await table.tidy()
            case "pack":
                await table.pack()
            case "sweep":  # of all but a few
                gone = [key for key in there if key > "c"]
                await table.sweep(lambda key: key[0] > "c", asyncio.Lock())  # type: ignore[index]
                there = {key: row for key, row in there.items() if key not in gone}
            case "read":
                await _agree(table, there)
            case str():
                table.drop((step,))
                there.pop(step, None)
            case _:
                table.put(step)
                there[step[0]] = step


async def _agree(table: Table[Row], there: dict[str, Row]) -> None:
    for number, (family, chunks) in enumerate(table.content()):
        assert family == FAMILIES[number]
        text = b"".join(chunk.text for chunk in chunks)
        wanted = "".join(_lines(row)[number] for row in there.values())
        assert sorted(text.decode().splitlines()) == sorted(wanted.splitlines())
        assert gzip.decompress(gzipped(chunks)) == text
    owned = Counter({name: sum(row[1:]) for name, row in there.items()})
    counted: Counter[str] = Counter()
    await table.owned(counted)
    assert +counted == +owned
    assert table.series == owned.total()


def test_rows_that_come_and_go_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_OF_A_CHUNK", 2)
    table: Table[Row] = Table(FAMILIES, lambda row: (row[0],), _lines)
    for _ in range(10):
        for name in "abcde":
            table.put((name, 1, 1))
        for name in "adbec":
            table.drop((name,))
    held = {name: len(value) for name, value in vars(table).items() if hasattr(value, "__len__")}
    assert max(held.values()) <= 6, held  # two columns of three chunks


@given(st.lists(st.text(max_size=50)))
def test_packed_chunks_are_one_gzip_member_to_who_reads_no_more(texts: list[str]) -> None:
    packed = gzipped([Chunk(text) for text in texts])
    reader = zlib.decompressobj(wbits=31)

    assert reader.decompress(packed) == "".join(texts).encode()
    assert reader.eof
    assert reader.unused_data == b""
