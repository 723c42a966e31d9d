"""Parts of ``/metrics``: the lines of all rows of a kind, patched by commits, read anew."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from quotabell.domain import exposition
from quotabell.domain.exposition import (
    QUOTA_FAMILIES,
    SUBJECT_FAMILIES,
    TOTAL_FAMILIES,
    Columns,
    Exposed,
    Family,
    Labelled,
    Lines,
)
from quotabell.domain.folding import BANDS, Bands, FoldedSums, Folding, Summand
from quotabell.service.chunks import Chunk, pack

_AT_A_TIME = 250  # rows: some 2 ms
_OF_A_CHUNK = 500  # rows: one that changed costs a few 0.1 ms

Row = TypeVar("Row")
State = TypeVar("State", bound=Labelled)
Content = list[tuple[Family, Sequence[Chunk]]]


class Table(Generic[Row]):
    """The lines of rows by their key. A key that names a user does so at ``user``."""

    def __init__(
        self,
        families: Sequence[Family],
        key: Callable[[Row], tuple[str, ...]],
        lines: Callable[[Row], Lines],
        user: int | None = None,
    ) -> None:
        self.families = families
        self.key = key
        self.lines = lines
        self._user = user
        self.columns: Columns = exposition.columns(families)
        self._series = 0
        self._keys: list[list[Hashable]] = []  # of each chunk
        self._place: dict[Hashable, int] = {}  # of the chunk of each key
        self._chunks: dict[
            tuple[int, int], Chunk
        ] = {}  # by column and place, of what did not change

    @property
    def series(self) -> int:
        """How many there are."""
        return self._series

    def put(self, row: Row) -> None:
        """Add or replace a row."""
        self.show(self.key(row), self.lines(row))

    def show(self, key: Hashable, lines: Lines) -> None:
        """Add or replace the lines of a row."""
        place = self._place.get(key)
        if place is None:
            if not any(lines):
                return
            place = self._place[key] = self._new_place(key)
        for number, line in enumerate(lines):
            old = self.columns[number].get(key, "")
            if line != old:
                self._series += line.count("\n") - old.count("\n")
                self._chunks.pop((number, place), None)
        exposition.put(self.columns, key, lines)

    def _new_place(self, key: Hashable) -> int:
        if not self._keys or len(self._keys[-1]) >= _OF_A_CHUNK:
            self._keys.append([])
        self._keys[-1].append(key)
        return len(self._keys) - 1

    def drop(self, key: Hashable) -> None:
        """Remove a row."""
        self.show(key, ("",) * len(self.columns))

    def content(self) -> Content:
        """The lines of now, which later changes do not touch."""
        return [(family, self._column(number)) for number, family in enumerate(self.families)]

    async def tidy(self) -> None:
        """Render what changed, a little at a time, so that `content` takes no time."""
        for place in range(len(self._keys)):
            for number in range(len(self.columns)):
                if (number, place) not in self._chunks:
                    self._chunk(number, place)
                    await asyncio.sleep(0)

    async def pack(self) -> None:
        """Compress ahead, which another thread does beside the event loop."""
        await self.tidy()
        await asyncio.to_thread(pack, list(self._chunks.values()))

    def _column(self, number: int) -> list[Chunk]:
        chunks = (self._chunk(number, place) for place in range(len(self._keys)))
        return [chunk for chunk in chunks if chunk.text]

    def _chunk(self, number: int, place: int) -> Chunk:
        chunk = self._chunks.get((number, place))
        if chunk is None:
            column = self.columns[number]
            chunk = Chunk("".join([column.get(key, "") for key in self._keys[place]]))
            self._chunks[number, place] = chunk
        return chunk

    def owned(self) -> Callable[[], Counter[str]]:
        """What counts the series of each user as they are now, from a thread perhaps."""
        user, columns = self._user, [list(column.items()) for column in self.columns]

        def count() -> Counter[str]:
            series: Counter[str] = Counter()
            if user is not None:
                for column in columns:
                    for key, line in column:
                        series[key[user]] += line.count("\n")  # type: ignore[index]
            return series

        return count


class QuotaTable(Table[State]):
    """Rows that are of quotas, without those of users who have no series of their own."""

    def __init__(
        self,
        families: Sequence[Family],
        key: Callable[[State], tuple[str, ...]],
        lines: Callable[[State, bool], Lines],
        folding: Folding,
    ) -> None:
        super().__init__(families, key, lambda row: lines(row, folding.per_user), user=3)
        self._shows = folding.shows

    def put(self, row: State) -> None:
        if self._shows(row.user_id):
            super().put(row)


class StateTable(QuotaTable[Exposed]):
    """Quota states, all of which are counted, whoever has series."""

    def __init__(self, key: Callable[[Exposed], tuple[str, ...]], folding: Folding) -> None:
        super().__init__(QUOTA_FAMILIES, key, exposition.state_lines, folding)
        self._bands = Bands()

    def put(self, row: Exposed) -> None:
        super().put(row)
        self._bands.put(self.key(row), row.quota, row.tokens_used, row.token_limit)

    def drop(self, key: Hashable) -> None:
        super().drop(key)
        self._bands.drop(key)

    @property
    def series(self) -> int:
        return self._series + len(BANDS) * len(self._bands.counts)

    def content(self) -> Content:
        counted = [exposition.subject_lines(*item)[0] for item in self._bands.counts.items()]
        return [*super().content(), (SUBJECT_FAMILIES[0], _chunks(counted))]


class SumTable(Table[Summand]):
    """Running sums, those of users without series of their own in one."""

    def __init__(self, folding: Folding) -> None:
        super().__init__(
            TOTAL_FAMILIES,
            lambda total: (total.user_id, total.provider, total.model),
            exposition.sum_lines,
            user=0,
        )
        self._folding = folding
        self._folded = FoldedSums()

    def put(self, row: Summand) -> None:
        if self._folding.names(row.user_id):
            super().put(row)
        else:
            self._folded.add(row)

    @property
    def series(self) -> int:
        return self._series + sum(line.count("\n") for lines in self._sums() for line in lines)

    def content(self) -> Content:
        folded = self._sums()
        return [
            (family, [*chunks, *_chunks([lines[number] for lines in folded])])
            for number, (family, chunks) in enumerate(super().content())
        ]

    def _sums(self) -> list[Lines]:
        """Those of several users: as many as there are models."""
        return [exposition.sum_lines(total, self._folding.per_user) for total in self._folded]


class Part(Generic[Row]):
    """The rows of one kind; ``make`` gives an empty table for them."""

    def __init__(self, make: Callable[[], Table[Row]]) -> None:
        self._make = make
        self._table = make()
        self._committed: dict[Hashable, Row] = {}  # and not in the table yet
        self._overtaking: dict[Hashable, Row] | None = None  # committed during a refresh
        self._forgotten: set[Hashable] = set()  # during a refresh
        self._catching_up = asyncio.Lock()

    @property
    def series(self) -> int:
        """How many there are."""
        return self._table.series

    def owned(self) -> Callable[[], Counter[str]]:
        """What counts the series of each user as they are now."""
        return self._table.owned()

    def patch(self, rows: Sequence[Row]) -> None:
        """Show what a commit of this replica stored.

        Only noted here: many reports of a row between two scrapes cost one rendering.
        """
        changed: dict[Hashable, Row] = {self._table.key(row): row for row in rows}
        self._committed |= changed
        if self._overtaking is not None:
            self._overtaking |= changed

    def forget(self, key: Hashable) -> None:
        """Show a row no more that was removed; a refresh under way has perhaps still read it."""
        self._committed.pop(key, None)
        self._table.drop(key)
        if self._overtaking is not None:
            self._overtaking.pop(key, None)
            self._forgotten.add(key)

    async def catch_up(self) -> None:
        """Bring what was committed into the table and render it, some rows at a time."""
        async with self._catching_up:
            committed, self._committed = self._committed, {}
            waiting, table = list(committed.values()), self._table
            for start in range(0, len(waiting), _AT_A_TIME):
                if start:
                    await asyncio.sleep(0)  # others wait for the event loop
                _put(table, waiting[start : start + _AT_A_TIME])
            await table.tidy()

    async def refresh(self, read: AsyncIterator[Sequence[Row]]) -> None:
        """Replace all by what is read."""
        self._overtaking = {}
        self._forgotten.clear()
        table = self._make()
        try:
            async for rows in read:
                for start in range(0, len(rows), _AT_A_TIME):
                    _put(table, rows[start : start + _AT_A_TIME])
                    await asyncio.sleep(0)
            await table.pack()
            for key in self._forgotten:
                table.drop(key)
            self._table = table
            # A commit may have overtaken the read, so it is shown once more. One from before is
            # in what was read, perhaps with what another replica committed later.
            self._committed = self._overtaking
        finally:
            self._overtaking = None

    def content(self) -> Content:
        """The lines of now by their families."""
        return self._table.content()


def _chunks(lines: Sequence[str]) -> list[Chunk]:
    """Few lines that change often."""
    text = "".join(lines)
    return [Chunk(text)] if text else []


def _put(table: Table[Row], rows: Sequence[Row]) -> None:
    for row in rows:
        table.put(row)
