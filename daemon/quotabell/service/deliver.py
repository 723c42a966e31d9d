"""Delivery: claims what is due and sends it. Runs on every replica.

An attempt's row is committed before the attempt is made and no transaction is open while it
is; a send whose outcome a crash hid is therefore known, and shown as `unknown`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache, partial
from time import monotonic
from typing import Any, Protocol
from uuid import UUID

from quotabell.channels.contract import Notification
from quotabell.domain.backoff import MAX_ATTEMPTS, next_attempt
from quotabell.domain.outcome import Outcome
from quotabell.errors import Conflict, QuotabellError, Refused
from quotabell.log import Logger
from quotabell.metrics import Metrics
from quotabell.service import faults
from quotabell.service.acknowledge import Acknowledger, Ended
from quotabell.service.lines import Lines
from quotabell.service.message import audience, draft
from quotabell.service.origins import CLAIMED, Origins
from quotabell.store.delivery import ALERTS, ASKED, Claimed, DeliveryStore
from quotabell.store.digests import Closed
from quotabell.store.enqueue import GATHER
from quotabell.store.outcomes import Status, Told

LEASE = 30.0  # seconds
NEEDS = 12.0  # seconds of its lease that must be left when a send begins: 10 for itself
BATCH = 100  # deliveries claimed at once
NOTIFICATIONS = 50  # turned into deliveries at once
POLL = 1.0  # seconds
_REAP_EVERY = 2.0
_RESUME_EVERY = 0.5
_SEARCH_EVERY = 30.0  # for leases of which no attempt tells
_RELEASE_EVERY = 0.25
_MEASURE_EVERY = 5.0
_CONFLICTS = 5  # in a row, before the next poll is waited for
_CLOSE_WITHIN = 10.0  # seconds; no send takes longer
_DRAIN_WITHIN = 2.0

Backoff = Callable[[int, float | None], float]


class Sender(Protocol):
    """A channel that finds what it needs to know of the recipient in the claimed delivery.

    The notification is shared by all deliveries of a message: its ``id`` is empty.
    """

    async def send(self, notification: Notification, claimed: Claimed) -> Outcome: ...


class Deliverer:
    """`run` claims and sends, `acknowledge` records, `wake` cuts the poll short."""

    def __init__(
        self,
        store: DeliveryStore,
        senders: Mapping[str, Sender],
        metrics: Metrics,
        log: Logger,
        *,
        worker: str,
        topic_key: bytes,
        tell: Callable[[int], Awaitable[Sequence[UUID] | None]] | None = None,
        fault: faults.Fault = faults.none,
        lease: float = LEASE,
        needs: float = NEEDS,
        poll: float = POLL,
        backoff: Backoff | None = None,
    ) -> None:
        """``tell`` puts up to so many notifications into words and says which may go.
        ``backoff``: seconds to wait after the n-th try, given what the receiver asked for."""
        self._store = store
        self._senders = senders
        self._metrics = metrics
        self._log = log
        self._worker = worker
        # Deliveries of one message come one after the other.
        self._draft = lru_cache(16)(partial(draft, topic_key))
        self._tell = tell
        self._fault = fault
        self._lease = lease
        self._needs = needs
        self._poll = poll
        self._random = random.Random()
        self._backoff = backoff or partial(next_attempt, rng=self._random)
        self._acknowledger = Acknowledger(store, metrics, log, patience=lease)
        self._origins = Origins()
        self._lines = Lines(self._deliver, self._spawn, log)
        self._woken = asyncio.Event()
        self._stepping = asyncio.Lock()
        self._working: set[asyncio.Task[None]] = set()
        self._notifications = NOTIFICATIONS
        self._conflicts = 0  # one after the other
        self._closing = False
        self._next_reap = self._next_search = self._next_measure = self._next_resume = 0.0

    def wake(self) -> None:
        """There may be something to deliver."""
        self._woken.set()

    async def start(self) -> None:
        """Free what this instance was sending when it was killed; raises Unavailable."""
        await self._reap(self._worker)

    async def run(self) -> None:
        """Deliver for ever."""
        while True:
            self._woken.clear()
            if not await self._pass():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll * self._random.uniform(0.8, 1.2)):
                        await self._woken.wait()

    async def acknowledge(self) -> None:
        """Record what became of attempts for ever."""
        await self._acknowledger.run()

    async def _pass(self) -> bool:
        """Do what can be done now; whether there may be more at once."""
        async with self._stepping:
            if self._closing:
                return False
            try:
                await self._tend()
                enqueued = await self._enqueue()
                more = await self._claim() or enqueued
                self._conflicts = 0
                return more
            except Conflict as error:
                # Met another replica; what is met every time is something else.
                self._conflicts += 1
                if self._conflicts < _CONFLICTS:
                    return True
                self._log.warning("delivery is held up", reason=str(error))
                return False
            except QuotabellError as error:
                self._log.warning("delivery is held up", reason=str(error))
                return False

    async def _tend(self) -> None:
        now = monotonic()
        if now >= self._next_reap:
            self._next_reap = now + _REAP_EVERY
            thorough = now >= self._next_search
            if thorough:
                self._next_search = now + _SEARCH_EVERY
            await self._reap(thorough=thorough)
        if now >= self._next_resume:
            self._next_resume = now + _RESUME_EVERY
            self._count(await self._store.enqueueing.resume())
        if now >= self._next_measure:
            self._next_measure = now + _MEASURE_EVERY
            await self.measure()

    async def _reap(self, dead_worker: str | None = None, *, thorough: bool = False) -> None:
        if freed := await self._store.reap(dead_worker, thorough=thorough):
            self._metrics.delivery_unknown.inc(freed)
            self._log.warning("sends of unknown outcome found", deliveries=freed)

    async def measure(self) -> None:
        """Bring the gauges up to date; raises Unavailable."""
        backlog = await self._store.backlog()
        self._metrics.deliveries_pending.set(backlog.pending)
        self._metrics.oldest_due.set(backlog.oldest)

    async def _enqueue(self) -> bool:
        limit = self._notifications
        among = await self._tell(limit) if self._tell else None
        if among is not None and not among:
            return False
        try:
            enqueued = await self._store.enqueueing.enqueue(limit, among)
        except Refused:
            # One of them cannot be; one at a time, it costs only itself.
            if given_up := await self._store.enqueueing.enqueue_oldest("it cannot be delivered"):
                self._log.error("a notification cannot be delivered", notification=given_up)
            return True
        except QuotabellError:
            # It may have been too much for one statement.
            self._notifications = max(1, limit // 2)
            raise
        self._notifications = min(NOTIFICATIONS, 2 * limit)
        self._count(enqueued.closed)
        if enqueued.digests:
            asyncio.get_running_loop().call_later(GATHER.total_seconds(), self.wake)
        # Some of those that wait may be held, or wait for others.
        looked_at_all = among is not None and len(among) == limit
        return enqueued.more or (enqueued.done > 0 and looked_at_all)

    def _count(self, closed: Sequence[Closed]) -> None:
        for channel, status in closed:
            self._metrics.deliveries.labels(channel, status).inc()

    async def _claim(self) -> bool:
        # An alert goes before it is even asked for tests.
        alerts = await self._take(ALERTS)
        return await self._take(ASKED) or alerts

    async def _take(self, kind: bool) -> bool:
        room = min(BATCH, self._origins.room)
        if room <= 0:
            return False
        until = monotonic() + self._lease
        taken, strangers = self._origins.taken()
        claimed, closed = await self._store.claim(
            *(room, CLAIMED, timedelta(seconds=self._lease), taken, self._worker),
            strangers=strangers,
            kinds=(kind,),
        )
        self._count(closed)
        if claimed:
            self._fault("after_claim")
            self._origins.begin([delivery.origin for delivery in claimed])
            self._spawn(self._lines.put(claimed, until))
        return len(claimed) + len(closed) >= room

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._working.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self._log.error("a delivery failed in an unforeseen way", exc_info=error)

    async def _deliver(self, claimed: Claimed, until: float) -> None:
        try:
            wait = max(self._origins.waits(claimed.origin), self._acknowledger.waits(claimed.id))
            if wait or self._closing or until - monotonic() < self._needs:
                await self._give_back(claimed, until, wait)
            else:
                await self._send(claimed)
        finally:
            if self._origins.end(claimed.origin):
                self._woken.set()

    async def _give_back(self, claimed: Claimed, until: float, wait: float) -> None:
        """Nobody has heard of it yet: it is as if it had not been claimed."""
        reason = ""
        while monotonic() < until or not reason:
            try:
                return await self._store.release([claimed], wait)
            except QuotabellError as error:
                reason = str(error)
            await asyncio.sleep(_RELEASE_EVERY)
        self._log.warning("a claim is not given back", reason=reason)

    async def _send(self, claimed: Claimed) -> None:
        started = monotonic()
        try:
            # Those that were claimed together have the same.
            notification = self._draft(claimed.message, audience(claimed), claimed.ttl)
            self._fault("before_send")
            outcome = await self._senders[claimed.channel].send(notification, claimed)
        except Exception as error:
            # A poisoned row costs its own delivery, never the others'.
            self._log.exception("a delivery cannot be made", delivery=claimed.id)
            outcome = Outcome("failed", reason=f"internal: {type(error).__name__}")
        self._fault("after_send")
        seconds = claimed.age + monotonic() - started
        self._acknowledger.put(Ended(self._told(claimed, outcome), claimed.channel, seconds))
        if outcome.kind != "sent":
            self._log.info(
                "attempt not successful",
                delivery=claimed.id,
                outcome=outcome.kind,
                status=outcome.status,
                reason=outcome.reason,
            )

    def _told(self, claimed: Claimed, outcome: Outcome) -> Told:
        status: Status = "failed"
        delay = 0.0
        if outcome.kind == "sent":
            status = "sent"
        elif outcome.kind == "retry":
            delay = self._backoff(claimed.tries, outcome.retry_after)
            # Throttled tries are ended by expiry alone.
            if not outcome.counts or claimed.counted + 1 < MAX_ATTEMPTS:
                status = "pending" if delay < claimed.ttl else "expired"
        return Told(
            id=claimed.id,
            fence=claimed.fence,
            status=status,
            outcome=outcome.kind,
            http_status=outcome.status,
            reason=outcome.reason,
            delay=delay,
            counts=outcome.counts,
            origin=claimed.origin,
            pause=self._origins.pause(claimed.origin, outcome, delay),
        )

    async def close(self) -> None:
        """Claim no more, finish what is being sent (bounded), give the rest back.

        What even then has no answer stays leased, and shows as unknown when its lease is over.
        """
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_WITHIN):
                async with self._stepping:
                    pass  # a pass that was under way has ended
                while self._working:
                    await asyncio.wait(self._working)
        for task in self._working:
            task.cancel()
        await self._acknowledger.drain(_DRAIN_WITHIN)
