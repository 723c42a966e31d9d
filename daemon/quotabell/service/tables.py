"""The lines of all rows of a kind in ``/metrics``, and in which chunks they stand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, TypeVar

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

_AT_A_TIME = 500  # rows that are looked at: some 0.1 ms, and a few ms if all are removed
_OF_A_CHUNK = 500  # rows: one that changed costs a few 0.1 ms

Row = TypeVar("Row")
State = TypeVar("State", bound=Labelled)
Content = list[tuple[Family, Sequence[Chunk]]]


def name_of(state: Labelled, *more: str) -> str:
    """What tells a row that is of a quota from others; not its id: of two periods of one quota
    only the present one is shown.

    One text, not a tuple: the collector of circular garbage would go through millions of those,
    and hold the event loop meanwhile. NUL is in no name.
    """
    return "\0".join((state.quota, state.provider, state.model, state.user_id, *more))


def user_of(name: str) -> str:
    """The user in such a name."""
    return name.split("\0")[3]


class Table(Generic[Row]):
    """The lines of rows by their key. ``user`` gives the user whom a key names."""

    def __init__(
        self,
        families: Sequence[Family],
        key: Callable[[Row], Hashable],
        lines: Callable[[Row], Lines],
        user: Callable[[Any], str] | None = None,
    ) -> None:
        self.families = families
        self.key = key
        self.lines = lines
        self._user = user
        self.columns: Columns = exposition.columns(families)
        self._series = 0
        self._keys: list[list[Hashable]] = []  # of each chunk
        self._place: dict[Hashable, int] = {}  # of the chunk of each key
        self._roomy: list[int] = []  # places of chunks that have room for more, each once
        # By column and place, of what did not change.
        self._chunks: dict[tuple[int, int], Chunk] = {}
        self._few: dict[Family, Chunk] = {}  # the last of each that has few lines

    @property
    def small(self) -> bool:
        """Whether rendering it anew takes no longer than a millisecond or two."""
        return len(self._keys) <= 1

    @property
    def series(self) -> int:
        """How many there are."""
        return self._series

    def put(self, row: Row) -> None:
        """Add or replace a row."""
        self.show(self.key(row), self.lines(row))

    def replace(self, row: Row) -> None:
        """Add or replace a row by what was read of it, which no older figure outlives."""
        self.put(row)

    def show(self, key: Hashable, lines: Lines) -> None:
        """Add or replace the lines of a row."""
        place = self._place.get(key)
        if place is None:
            if not any(lines):
                return
            place = self._place[key] = self._new_place(key)
        for number, line in enumerate(lines):
            column = self.columns[number]
            old = column.get(key, "")
            if line != old:
                self._series += line.count("\n") - old.count("\n")
                self._chunks.pop((number, place), None)
                if line:
                    column[key] = line
                else:
                    del column[key]

    def _new_place(self, key: Hashable) -> int:
        if not self._roomy:
            self._roomy.append(len(self._keys))
            self._keys.append([])
        place = self._roomy[-1]
        self._keys[place].append(key)
        if len(self._keys[place]) == _OF_A_CHUNK:
            self._roomy.pop()
        return place

    def drop(self, key: Hashable) -> None:
        """Remove a row."""
        self.show(key, ("",) * len(self.columns))
        place = self._place.pop(key, None)
        if place is not None:
            if len(self._keys[place]) == _OF_A_CHUNK:
                self._roomy.append(place)
            self._keys[place].remove(key)

    async def sweep(self, gone: Callable[[Hashable], bool], changing: asyncio.Lock) -> None:
        """Remove the rows that are gone, some at a time, while nobody else is ``changing``."""
        for keys in self._held():
            for start in range(0, len(keys), _AT_A_TIME):
                async with changing:
                    for key in keys[start : start + _AT_A_TIME]:
                        if gone(key):
                            self.drop(key)
                await asyncio.sleep(0)

    def _held(self) -> Iterator[Sequence[Hashable]]:
        """The keys of all rows; of some twice, perhaps."""
        for keys in self._keys:
            yield list(keys)

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

    def _few_lines(self, family: Family, lines: Sequence[str]) -> list[Chunk]:
        """Lines that stand in no column: the chunk of before as long as they are the same."""
        text = "".join(lines)
        if not text:
            return []
        chunk = self._few.get(family)
        if chunk is None or chunk.text != text.encode():
            chunk = self._few[family] = Chunk(text)
        return [chunk]

    async def owned(self, series: Counter[str]) -> None:
        """Add the number of series that each user has, some users at a time."""
        if self._user is None:
            return
        for place in range(len(self._keys)):
            for key in self._keys[place]:
                lines = (column.get(key, "") for column in self.columns)
                series[self._user(key)] += sum(line.count("\n") for line in lines)
            await asyncio.sleep(0)


class QuotaTable(Table[State]):
    """Rows that are of quotas, without those of users who have no series of their own."""

    def __init__(
        self,
        families: Sequence[Family],
        key: Callable[[State], str],
        lines: Callable[[State, bool], Lines],
        folding: Folding,
    ) -> None:
        super().__init__(families, key, lambda row: lines(row, folding.per_user), user_of)
        self._shows = folding.shows

    def put(self, row: State) -> None:
        if self._shows(row.user_id):
            super().put(row)


class StateTable(QuotaTable[Exposed]):
    """Quota states, all of which are counted, whoever has series."""

    def __init__(self, key: Callable[[Exposed], str], folding: Folding) -> None:
        super().__init__(QUOTA_FAMILIES, key, exposition.state_lines, folding)
        self._bands = Bands()

    def put(self, row: Exposed) -> None:
        super().put(row)
        self._bands.put(self.key(row), row.quota, row.tokens_used, row.token_limit)

    def drop(self, key: Hashable) -> None:
        super().drop(key)
        self._bands.drop(key)

    def _held(self) -> Iterator[Sequence[Hashable]]:
        yield from super()._held()
        yield self._bands.keys()

    @property
    def series(self) -> int:
        return self._series + len(BANDS) * len(self._bands.counts)

    def content(self) -> Content:
        counted = [exposition.subject_lines(*item)[0] for item in self._bands.counts.items()]
        return [
            *super().content(),
            *((family, self._few_lines(family, counted)) for family in SUBJECT_FAMILIES),
        ]


class SumTable(Table[Summand]):
    """Running sums, those of users without series of their own in one."""

    def __init__(self, folding: Folding) -> None:
        super().__init__(
            TOTAL_FAMILIES,
            lambda total: (total.user_id, total.provider, total.model),
            exposition.sum_lines,
            lambda key: key[0],
        )
        self._folding = folding
        self._folded = FoldedSums()

    @property
    def small(self) -> bool:
        return super().small and len(self._folded) <= _OF_A_CHUNK

    def put(self, row: Summand) -> None:
        if self._folding.names(row.user_id):
            super().put(row)
        else:
            self._folded.add(row)

    def replace(self, row: Summand) -> None:
        if self._folding.names(row.user_id):
            super().put(row)
        else:
            self._folded.replace(row)

    def drop(self, key: Hashable) -> None:
        super().drop(key)
        self._folded.drop(key)  # type: ignore[arg-type]

    def _held(self) -> Iterator[Sequence[Hashable]]:
        yield from super()._held()
        yield self._folded.keys()

    @property
    def series(self) -> int:
        return self._series + sum(line.count("\n") for lines in self._sums() for line in lines)

    def content(self) -> Content:
        folded = self._sums()
        return [
            (family, [*chunks, *self._few_lines(family, [lines[number] for lines in folded])])
            for number, (family, chunks) in enumerate(super().content())
        ]

    def _sums(self) -> list[Lines]:
        """Those of several users: as many as there are models."""
        return [exposition.sum_lines(total, self._folding.per_user) for total in self._folded]
