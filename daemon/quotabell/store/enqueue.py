"""From notifications to deliveries: who is told of what, and when."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from quotabell.domain import digest
from quotabell.errors import QuotabellError, Refused
from quotabell.store.database import Connection, Database, translated
from quotabell.store.queries import load
from quotabell.store.settling import SettlingStore

_SQL = load("enqueue")
_DIGESTS = load("digests")

CROWD = 5  # alerts of a kind for a target; more than these become one delivery
CROWD_SHARE = 20  # times as many notifications are turned into deliveries at once then
GATHER = timedelta(seconds=1)  # for which a digest waits for more after the last that joined
LINGER = timedelta(seconds=2)  # for which it waits at a time while more is about to ring
LINGER_AT_MOST = timedelta(seconds=30)
ROUND = timedelta(seconds=5)  # for which one of hundreds waits besides: a round of evaluation


class Closed(NamedTuple):
    """A delivery that ended unsent: expired, suppressed or superseded."""

    channel: str
    status: str


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
                closed, needless = await self._word(connection, _ids(rows, "digest"))
                await connection.execute(_DIGESTS["linger"], LINGER, LINGER_AT_MOST)
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
                        await self._word(connection, _ids(rows, "digest"))
            except Refused:
                await connection.execute(_SQL["refuse"], oldest, excuse)
                return oldest
        return None

    async def resume(self) -> list[Closed]:
        """Let go what waited for a delivery that has ended; what ended thereby.

        And let digests wait as long as there is more for them to come.
        """
        await self.database.execute(_DIGESTS["linger"], LINGER, LINGER_AT_MOST)
        rows = await self.database.fetch(_DIGESTS["resume"])
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

    async def _word(
        self, connection: Connection, digests: set[UUID]
    ) -> tuple[list[Closed], set[UUID]]:
        """Write what digests say now; what ended because they have nothing left to say."""
        closed: list[Closed] = []
        needless: set[UUID] = set()
        if not digests:
            return closed, needless
        rows = await connection.fetch(_DIGESTS["members"], sorted(digests), digest.LISTED)
        for row in rows:
            if not row["members"]:
                gone = await connection.fetch(_DIGESTS["dissolve"], row["id"])
                closed += [Closed(one["channel"], "superseded") for one in gone]
                needless.add(row["id"])
                continue
            words = digest.compose(
                row["kind"],
                ends=row["ends"],
                number=row["members"],
                worst=json.loads(row["worst"]),
            )
            replaces = {"replaces": str(row["replaces"])} if row["replaces"] else {}
            data = json.dumps(words.data | replaces)
            await connection.execute(
                _DIGESTS["word"], row["id"], words.title, words.body, words.level, data
            )
        return closed, needless


def _ids(rows: Iterable[Any], what: str) -> set[UUID]:
    return {row["id"] for row in rows if row["what"] == what}
