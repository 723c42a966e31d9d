"""From notifications to deliveries: who is told of what, and when."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from quotabell.errors import QuotabellError, Refused
from quotabell.store import digests
from quotabell.store.database import Database, translated
from quotabell.store.digests import Closed
from quotabell.store.queries import load
from quotabell.store.settling import SettlingStore

_SQL = load("enqueue")

CROWD = 5  # alerts of a kind for a target; more than these become one delivery
CROWD_SHARE = 20  # times as many notifications are turned into deliveries at once then
GATHER = timedelta(seconds=1)  # for which a digest waits for more after the last that joined
ROUND = timedelta(seconds=5)  # for which one of hundreds waits besides: a round of evaluation


class Enqueued(NamedTuple):
    """How many notifications were turned into deliveries, and what these made needless.

    ``more``: there may be more at once. ``digests``: some are sent when they are complete, GATHER
    from now.
    """

    done: int
    closed: list[Closed]
    more: bool
    digests: bool


@dataclass(frozen=True, slots=True)
class EnqueueStore:
    """Every method raises Unavailable, or Conflict where it may be repeated.

    ``round``: how long it may take until what crossed in a storm has rung.
    """

    database: Database
    round: timedelta = ROUND

    async def enqueue(self, limit: int, among: Sequence[UUID] | None = None) -> Enqueued:
        """Turn up to ``limit`` pending notifications (``among`` these, None: any) into deliveries;
        of a crowd, many more, and of any.

        Raises Refused if one of them cannot be.
        """
        rows = await self.database.fetch(
            _SQL["enqueue"], *self._arguments(limit, among, alone=False)
        )
        if any(row["what"] == "crowd" for row in rows):
            limit *= CROWD_SHARE
            async with self.database.transaction() as connection:
                await connection.execute(_SQL["alone"])
                rows = await connection.fetch(
                    _SQL["enqueue"], *self._arguments(limit, None, alone=True)
                )
                closed, needless = await digests.word(connection, _ids(rows, "digest"))
                await digests.linger(connection)
        else:
            closed, needless = [], set()
        done = len(_ids(rows, "done"))
        superseded = [row for row in rows if row["what"] == "superseded"]
        await self._settle({*(row["id"] for row in superseded), *needless})
        closed += [Closed(row["channel"], "superseded") for row in superseded if row["channel"]]
        return Enqueued(done, closed, done >= limit, bool(_ids(rows, "digest")))

    async def enqueue_oldest(self, excuse: str) -> UUID | None:
        """Turn the oldest pending notification into deliveries, or give it up with an excuse.

        Its id if it was given up.
        """
        async with self.database.transaction() as connection:
            await connection.execute(_SQL["alone"])
            oldest: UUID | None = await connection.fetchval(_SQL["oldest"])
            if oldest is None:
                return None
            try:
                with translated():
                    async with connection.transaction():
                        rows = await connection.fetch(
                            _SQL["enqueue"], *self._arguments(1, [oldest], alone=True)
                        )
                        await digests.word(connection, _ids(rows, "digest"))
            except Refused:
                await connection.execute(_SQL["refuse"], oldest, excuse)
                return oldest
        return None

    async def resume(self) -> list[Closed]:
        """Let go what waited for a delivery that has ended; what ended thereby.

        And let digests wait as long as there is more for them to come.
        """
        async with self.database.connection() as connection:
            await digests.linger(connection)
        rows = await digests.resume(self.database)
        ended = [row for row in rows if row["status"] != "pending"]
        await self._settle(row["notification_id"] for row in ended)
        return [Closed(row["channel"], row["status"]) for row in ended]

    def _arguments(
        self, limit: int, among: Sequence[UUID] | None, *, alone: bool
    ) -> tuple[Any, ...]:
        return limit, among, CROWD, alone, GATHER, GATHER + self.round

    async def _settle(self, notifications: Iterable[UUID]) -> None:
        # What cannot be settled at once is not forgotten: the evaluator looks for it.
        with contextlib.suppress(QuotabellError):
            await SettlingStore(self.database).settle({str(key) for key in notifications})


def _ids(rows: Iterable[Any], what: str) -> set[UUID]:
    return {row["id"] for row in rows if row["what"] == what}
