"""Parts of ``/metrics``: the lines of all rows of a kind, patched by commits, read anew."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from quotabell.service.tables import Content, Table

_AT_A_TIME = 250  # rows: some 2 ms

Row = TypeVar("Row")


class Part(Generic[Row]):
    """The rows of one kind; ``make`` gives an empty table for them, and another one wherever
    ``basis`` gives something else than before."""

    def __init__(
        self, make: Callable[[], Table[Row]], basis: Callable[[], object] = lambda: None
    ) -> None:
        self._make = make
        self._basis = basis
        self._of = basis()  # whereof the table was made
        self._table = make()
        self._committed: dict[Hashable, Row] = {}  # and not in the table yet
        self._overtaking: dict[Hashable, Row] | None = None  # committed during a refresh
        self._forgotten: set[Hashable] = set()  # during a refresh
        self._changing = asyncio.Lock()  # the table, but for what is forgotten

    @property
    def series(self) -> int:
        """How many there are."""
        return self._table.series

    async def owned(self, series: Counter[str]) -> None:
        """Add the number of series that each user has."""
        await self._table.owned(series)

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

    @contextlib.asynccontextmanager
    async def settled(self) -> AsyncIterator[None]:
        """Bring what was committed into the table and render it, some rows at a time. A refresh
        changes nothing meanwhile, so `content` has nothing to render."""
        async with self._changing:
            await self._take_in()
            await self._table.tidy()
            yield

    async def _take_in(self) -> None:
        while self._committed:
            for _ in range(min(len(self._committed), _AT_A_TIME)):
                self._table.put(self._committed.popitem()[1])
            if self._committed:
                await asyncio.sleep(0)  # others wait for the event loop

    @property
    def small(self) -> bool:
        """Whether rendering all of it anew takes no time to speak of."""
        return self._table.small

    def catch_up_at_once(self) -> bool:
        """Bring what was committed into the table, if that is little; whether it was."""
        if len(self._committed) > _AT_A_TIME or self._changing.locked():
            return False
        committed, self._committed = self._committed, {}
        for row in committed.values():
            self._table.put(row)
        return True

    async def refresh(self, read: AsyncGenerator[Sequence[Row], None]) -> None:
        """Replace all by what is read, a row after the other: between two states of the database
        nothing stands here twice, and what did not change stays rendered and compressed."""
        async with self._changing:
            await self._take_in()  # what is read from now on is newer
            self._overtaking, self._forgotten = {}, set()
        try:
            async with contextlib.aclosing(read):
                await self._read(read)
        finally:
            self._overtaking = None

    async def _read(self, read: AsyncGenerator[Sequence[Row], None]) -> None:
        overtaking, forgotten, of = self._overtaking, self._forgotten, self._basis()
        assert overtaking is not None
        before = self._table
        table = before if of is self._of else self._make()
        seen: set[Hashable] = set()
        try:
            async for rows in read:
                for start in range(0, len(rows), _AT_A_TIME):
                    async with self._changing:
                        for row in rows[start : start + _AT_A_TIME]:
                            key = table.key(row)
                            seen.add(key)
                            # What was committed or removed meanwhile is not in this, perhaps.
                            if key not in overtaking and key not in forgotten:
                                table.replace(row)
                    await asyncio.sleep(0)
            if table is before:
                await table.sweep(
                    lambda key: key not in seen and key not in overtaking, self._changing
                )
        finally:
            await _empty(seen)
        await table.pack()
        if table is not before:
            async with self._changing:
                for removed in forgotten:  # after they were read
                    table.drop(removed)
                self._table, self._of = table, of
                self._committed = overtaking | self._committed
            # To free all at once takes too long.
            await before.sweep(lambda key: True, asyncio.Lock())

    def content(self) -> Content:
        """The lines of now by their families."""
        return self._table.content()


async def _empty(keys: set[Hashable]) -> None:
    """Some at a time: to free all at once takes too long."""
    while keys:
        for _ in range(min(len(keys), _AT_A_TIME)):
            keys.pop()
        await asyncio.sleep(0)
