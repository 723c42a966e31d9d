"""Group commit: reports wait in a bounded queue, one writer commits all that wait at once.

An acknowledgement therefore always means a commit, at a fraction of the cost of a
transaction a request. A request is never split over two transactions.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

from quotabell.errors import (
    Busy,
    Conflict,
    FieldError,
    QuotabellError,
    Refused,
    Rejected,
    Unavailable,
)
from quotabell.log import Logger
from quotabell.metrics import Metrics
from quotabell.store.database import Database

BATCH_ITEMS = 2_000
ANSWER_WITHIN = 7.5  # seconds; exporters give up at 10
CONFLICT_REPEATS = 3
SEARCH_FOR = 3.0  # seconds to find out who of a batch waits for a row that somebody holds
_SWEEP = 0.25

QUEUE_FULL = "the queue of reports is full"
CLOSING = "the daemon is shutting down"
CONTENDED = "the commit kept meeting other transactions"
LATE = "no commit in time; whether it was stored is unknown, a repeat with ids is safe"


Item = TypeVar("Item")
Receipt = TypeVar("Receipt")
Item_contra = TypeVar("Item_contra", contravariant=True)
Receipt_co = TypeVar("Receipt_co", covariant=True)


class Committed(Protocol[Receipt_co]):
    """A receipt for each item of a batch, in its order."""

    @property
    def receipts(self) -> Sequence[Receipt_co]: ...


Stored = TypeVar("Stored", bound=Committed[Any])
Stored_co = TypeVar("Stored_co", bound=Committed[Any], covariant=True)


class Store(Protocol[Item_contra, Stored_co]):
    """Where batches of one kind of report go."""

    @property
    def database(self) -> Database: ...

    async def report(self, batch: Sequence[Item_contra], /) -> Stored_co:
        """Commit a batch in one transaction; raises Refused, Conflict, Unavailable."""
        ...

    async def acceptable(self, batch: Sequence[Item_contra], /) -> bool:
        """Whether the database would take the batch; nothing is stored."""
        ...


class _Report(Generic[Item, Receipt]):
    """One request's items on their way to the database."""

    __slots__ = ("arrived", "items", "result")

    def __init__(
        self,
        items: Sequence[Item],
        result: asyncio.Future[Sequence[Receipt]],
        arrived: float,
    ) -> None:
        self.items = items
        self.result = result
        self.arrived = arrived

    def succeed(self, receipts: Sequence[Receipt]) -> None:
        if not self.result.done():
            self.result.set_result(receipts)

    def fail(self, error: QuotabellError) -> None:
        if not self.result.done():
            self.result.set_exception(error)
            self.result.exception()  # no complaint if its client's handler is gone


class Committer(Generic[Item, Receipt, Stored]):
    """Accepts reports while it runs; `run` is the one writer, `sweep` keeps the deadline.

    ``on_stored`` is called with what each commit stored, before its requests are answered.
    """

    def __init__(
        self,
        store: Store[Item, Stored],
        metrics: Metrics,
        log: Logger,
        *,
        max_pending: int,
        on_stored: Callable[[Stored], None] = lambda stored: None,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._log = log
        self._max_pending = max_pending
        self._on_stored = on_stored
        self._queue: deque[_Report[Item, Receipt]] = deque()
        self._in_flight: list[_Report[Item, Receipt]] = []
        self._pending = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False

    @property
    def pending(self) -> int:
        """Items that wait for their commit."""
        return self._pending

    def submit(self, items: Sequence[Item]) -> asyncio.Future[Sequence[Receipt]]:
        """Queue one request's items; the future gives a receipt for each after the commit.

        Raises Unavailable at once when the queue is full, the database is away or the daemon
        is closing; the future raises Unavailable, or Rejected with the index (of ``items``)
        of what the database refuses.
        """
        if self._closing:
            raise Unavailable(CLOSING)
        if not self._store.database.up:
            raise Unavailable
        if self._pending + len(items) > self._max_pending:
            raise Unavailable(QUEUE_FULL)
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Sequence[Receipt]] = loop.create_future()
        self._queue.append(_Report(items, result, loop.time()))
        self._pending += len(items)
        self._wake.set()
        self._idle.clear()
        return result

    async def run(self) -> None:
        """Write for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._queue:
                batch = self._in_flight = self._take()
                try:
                    await self._commit(batch)
                finally:
                    for report in batch:
                        if not report.result.done():
                            report.fail(Unavailable(LATE))
                    self._in_flight = []
                    self._pending -= sum(len(report.items) for report in batch)
            self._idle.set()

    async def sweep(self) -> None:
        """Answer what has waited too long, for ever."""
        while True:
            await asyncio.sleep(_SWEEP)
            overdue = asyncio.get_running_loop().time() - ANSWER_WITHIN
            for report in self._in_flight:
                if report.arrived < overdue:
                    report.fail(Unavailable(LATE))
            while self._queue and self._queue[0].arrived < overdue:
                report = self._queue.popleft()
                self._pending -= len(report.items)
                report.fail(Unavailable("not committed in time"))

    async def close(self) -> None:
        """Take no more, and wait (bounded) until what is queued has been answered."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_WITHIN):
                await self._idle.wait()

    def _take(self) -> list[_Report[Item, Receipt]]:
        batch = [self._queue.popleft()]
        size = len(batch[0].items)
        while self._queue and size + len(self._queue[0].items) <= BATCH_ITEMS:
            report = self._queue.popleft()
            size += len(report.items)
            batch.append(report)
        return batch

    async def _commit(
        self, batch: list[_Report[Item, Receipt]], search_until: float | None = None
    ) -> None:
        items = [item for report in batch for item in report.items]
        started = perf_counter()
        try:
            reported = await self._report(items)
        except Refused as error:
            await self._isolate(batch, error)
            return
        except Busy as error:
            until = search_until or perf_counter() + SEARCH_FOR
            if len(batch) > 1 and perf_counter() < until:
                half = len(batch) // 2
                await self._commit(batch[:half], until)
                await self._commit(batch[half:], until)
                return
            self._contended(batch, error)
            return
        except Conflict as error:
            self._contended(batch, error)
            return
        except Unavailable as error:
            self._lose(batch, error)
            return
        self._metrics.commit_seconds.observe(perf_counter() - started)
        self._metrics.batch_events.observe(len(items))
        self._on_stored(reported)
        receipts = reported.receipts
        start = 0
        for report in batch:
            end = start + len(report.items)
            report.succeed(receipts[start:end])
            start = end

    async def _report(self, items: Sequence[Item]) -> Stored:
        """Repeats what met another transaction; raises Conflict if it keeps doing so."""
        for _ in range(CONFLICT_REPEATS):
            try:
                return await self._store.report(items)
            except Busy:
                raise
            except Conflict as error:
                self._log.info("commit repeated", reason=str(error))
        return await self._store.report(items)

    def _contended(self, batch: list[_Report[Item, Receipt]], error: Conflict) -> None:
        """Only those who want what somebody holds are told so; the database is not away."""
        self._log.warning("reports not committed", requests=len(batch), reason=str(error))
        for report in batch:
            report.fail(Unavailable(CONTENDED))

    async def _isolate(self, batch: list[_Report[Item, Receipt]], error: Refused) -> None:
        """Let what the database refuses fail alone: halve until one request is left."""
        if len(batch) > 1:
            half = len(batch) // 2
            await self._commit(batch[:half])
            await self._commit(batch[half:])
            return
        report = batch[0]
        index = await self._culprit(report.items)
        self._log.warning("report refused by the database", reason=str(error))
        report.fail(Rejected([FieldError("", "the database refuses this report", index)]))

    async def _culprit(self, items: Sequence[Item]) -> int | None:
        """An item that the database refuses, by halving within undone transactions.

        None: the database was lost meanwhile.
        """
        low, high = 0, len(items)
        try:
            while high - low > 1:
                middle = (low + high) // 2
                if await self._store.acceptable(items[low:middle]):
                    low = middle
                else:
                    high = middle
        except (Unavailable, Conflict):
            return None
        return low

    def _lose(self, batch: list[_Report[Item, Receipt]], error: Unavailable) -> None:
        """The database is away: say so at once to everyone who waits."""
        self._store.database.suspect()
        waiting = [*batch, *self._queue]
        self._pending -= sum(len(report.items) for report in self._queue)
        self._queue.clear()
        self._log.warning("reports not committed", requests=len(waiting), reason=str(error))
        for report in waiting:
            report.fail(Unavailable(str(error)))
