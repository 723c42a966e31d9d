"""The outbox: notifications to deliveries, claims with lease and fence, attempts, history."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from quotabell.errors import Conflict, QuotabellError, Refused
from quotabell.store import jsonb
from quotabell.store.database import Database
from quotabell.store.digests import Closed
from quotabell.store.enqueue import ROUND, EnqueueStore
from quotabell.store.outcomes import OutcomeStore, Told, pauses_of
from quotabell.store.queries import load
from quotabell.store.settling import Recorded, SettlingStore

_SQL = load("delivery")
ALERTS, ASKED = False, True  # kinds of deliveries: the latter are tests, which people ask for
_FOLLOW_UPS = 5
_FOLLOW_UP_AFTER = 0.02  # seconds


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """What a notification says; the deliveries of it that are claimed together share it."""

    notification_id: str
    kind: str
    transition: str
    title: str
    body: str
    data: dict[str, Any]
    level: float | None
    user: str
    created_at: datetime
    alert_id: str | None


@dataclass(frozen=True, slots=True)
class Subscription:
    """A browser's subscription as its row has it, whatever that is. Holds secrets."""

    is_active: bool
    endpoint: str | None = field(repr=False)
    p256dh: str | None = field(repr=False)
    auth: str | None = field(repr=False)
    vapid_key_id: str | None
    user: str = ""  # empty: an operator's


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this replica took, to be sent within its lease.

    ``ttl`` and ``age`` are seconds: what the message is still worth, and since when it waits.
    ``tries`` counts the attempts with the one about to be made, ``counted`` what has been used
    up of their limit.
    """

    id: int
    channel: str
    target: str
    origin: str
    fence: int
    tries: int
    counted: int
    ttl: float
    age: float
    message: Message
    subscription: Subscription | None  # None: its row is gone, or another channel
    configured: bool = True  # whether the channel is one of those in force


class Backlog(NamedTuple):
    """Deliveries not finished, and seconds since the oldest of them, or a message that is not made
    into deliveries yet, was due."""

    pending: int
    oldest: float


@dataclass(frozen=True, slots=True)
class DeliveryStore(OutcomeStore):
    """Every method raises Unavailable, or Conflict where it may be repeated."""

    database: Database
    round: timedelta = ROUND
    # Where the walk through all origins that wait goes on: for alerts, for what is asked for.
    _walked: dict[bool, str] = field(default_factory=lambda: {False: "", True: ""})

    @property
    def settling(self) -> SettlingStore:
        return SettlingStore(self.database)

    @property
    def enqueueing(self) -> EnqueueStore:
        return EnqueueStore(self.database, self.round)

    async def enqueue(self, limit: int, among: Sequence[UUID] | None = None) -> int:
        """Turn pending notifications into deliveries; how many it were."""
        return (await self.enqueueing.enqueue(limit, among)).done

    async def enqueue_oldest(self, excuse: str) -> UUID | None:
        """As that of ``enqueueing``."""
        return await self.enqueueing.enqueue_oldest(excuse)

    async def claim(
        self,
        limit: int,
        per_origin: int,
        lease: timedelta,
        claimed: Mapping[str, int],
        worker: str,
        *,
        strangers: int | None = None,
        kinds: Sequence[bool] = (ALERTS, ASKED),
    ) -> tuple[list[Claimed], list[Closed]]:
        """Take due deliveries of those kinds: what is to be sent, and what ended instead.

        At most ``per_origin`` are taken of an origin, less what is ``claimed`` already; of one
        that is not named there at most ``strangers`` (None: as many). The rows of their
        attempts are committed when this returns.
        """
        sending = Counter(claimed)
        rows: list[Any] = []
        for asked in kinds:
            found = await self._take(
                *(limit - len(rows), per_origin, lease),
                *(list(sending), list(sending.values()), worker, asked),
                *(per_origin if strangers is None else strangers, self._walked[asked]),
            )
            self._walked[asked] = found[0]["walked"] or ""
            rows += (row for row in found if row["id"] is not None)
            if len(rows) >= limit:
                break
            _count(sending, found, per_origin, strangers)
        leased = {row["id"]: n for n, row in enumerate(rows) if row["status"] == "leased"}
        details = await self._details({row["id"]: row["fence"] for row in rows if row["fence"]})
        now = {row["id"]: row["status"] for row in (*rows, *details)}
        ended = [row for row in rows if now[row["id"]] not in ("leased", "pending")]
        # What cannot be settled at once is not forgotten: the evaluator looks for it.
        with contextlib.suppress(QuotabellError):
            await self.settling.settle({str(row["notification_id"]) for row in ended})
        details.sort(key=lambda row: leased[row["id"]])
        closed = [Closed(row["channel"], now[row["id"]]) for row in ended]
        return _claimed([row for row in details if row["status"] == "leased"]), closed

    async def _take(self, *arguments: Any) -> list[Any]:
        try:
            return await self.database.fetch(_SQL["claim"], *arguments)
        except Refused as error:
            # Another replica took a message of the same lane just now.
            raise Conflict(str(error)) from error

    async def _details(self, fences: Mapping[int, int]) -> list[Any]:
        """Read what was claimed after that was committed: no transaction, hence no round trips."""
        if not fences:
            return []
        try:
            return await self.database.fetch(_SQL["claimed"], list(fences), list(fences.values()))
        except QuotabellError:
            # Nobody has heard of them: they need not wait for the end of their leases.
            with contextlib.suppress(QuotabellError):
                await self._release(fences, 0.0)
            raise

    async def acknowledge(self, told: Sequence[Told]) -> set[int]:
        """Record what became of attempts and all that follows; the ids whose fence held."""
        if pauses := pauses_of(told):
            await self.pause(pauses)
        recorded, _ = await self.record(told)
        left: Sequence[Recorded] = recorded
        for _ in range(_FOLLOW_UPS):
            left = await self.settling.follow_up(left)
            if not left:
                break
            await asyncio.sleep(_FOLLOW_UP_AFTER)
        return {one.id for one in recorded}

    async def reap(self, dead_worker: str | None = None, *, thorough: bool = False) -> int:
        """Free deliveries whose lease ran out, and all of a worker that is known to be dead.

        Returns how many; what became of their attempts is unknown. Where somebody has deleted
        the row of an attempt only ``thorough`` finds its delivery.
        """
        return int((await self.database.fetch(_SQL["reap"], dead_worker, thorough))[0]["count"])

    async def release(self, claimed: Sequence[Claimed], delay: float = 0.0) -> None:
        """Give back deliveries that were claimed and not sent, to be sent in ``delay`` seconds."""
        if claimed:
            await self._release({c.id: c.fence for c in claimed}, delay)

    async def _release(self, fences: Mapping[int, int], delay: float) -> None:
        delays = [delay] * len(fences)
        await self.database.execute(_SQL["release"], list(fences), list(fences.values()), delays)

    async def backlog(self) -> Backlog:
        return Backlog(*(await self.database.fetch(_SQL["backlog"]))[0])


def _count(
    sending: Counter[str], claimed: Sequence[Any], per_origin: int, strangers: int | None
) -> None:
    """Add what was claimed to what is taken of each origin."""
    for row in claimed:
        if row["status"] == "leased":
            if row["origin"] not in sending and strangers is not None:
                sending[row["origin"]] = per_origin - strangers
            sending[row["origin"]] += 1


def _claimed(rows: Sequence[Any]) -> list[Claimed]:
    messages: dict[str, Message] = {}
    return [_one(row, messages) for row in rows]


def _one(row: Any, messages: dict[str, Message]) -> Claimed:
    message = messages.get(row["notification_id"])
    if message is None:
        data = jsonb.decoded(row["data"])
        message = messages[row["notification_id"]] = Message(
            notification_id=row["notification_id"],
            kind=row["kind"],
            transition=row["transition"],
            title=row["title"],
            body=row["body"],
            data=data if isinstance(data, dict) else {},
            level=row["level"],
            user=row["user_id"],
            created_at=row["created_at"],
            alert_id=row["alert_id"],
        )
    subscription = None
    if row["is_active"] is not None:
        subscription = Subscription(
            is_active=row["is_active"],
            endpoint=row["endpoint"],
            p256dh=row["p256dh"],
            auth=row["auth"],
            vapid_key_id=row["vapid_key_id"],
            user=row["subscriber"],
        )
    return Claimed(
        id=row["id"],
        channel=row["channel"],
        target=row["target"],
        origin=row["origin"],
        fence=row["fence"],
        tries=row["tries"],
        counted=row["counted"],
        ttl=row["ttl"],
        age=row["age"],
        message=message,
        subscription=subscription,
        configured=row["configured"],
    )
