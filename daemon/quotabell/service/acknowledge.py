"""What became of attempts, on its way into the database."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, OrderedDict
from collections.abc import Sequence
from time import monotonic
from typing import NamedTuple

from quotabell.errors import Conflict, QuotabellError, Refused, Unavailable
from quotabell.log import Logger
from quotabell.metrics import Metrics
from quotabell.store.delivery import DeliveryStore
from quotabell.store.outcomes import Told
from quotabell.store.settling import Recorded

_PAUSE = 0.25  # seconds between tries while the database is away, or somebody holds a row
_GATHER = 0.01  # seconds for which a few outcomes wait for more, while one follows the other
_FEW = 50
_GATHER_OWED = 0.05  # as much for follow-ups, which nobody waits for
_OWED = 20_000  # follow-ups remembered; the evaluator does what is forgotten


class Ended(NamedTuple):
    """An attempt that ended: ``seconds`` since the crossing."""

    told: Told
    channel: str
    seconds: float


class Acknowledger:
    """Records outcomes, all that wait at once, and counts those whose fence still held.

    What follows from them for notifications and subscriptions is written apart, and again while
    somebody holds such a row: it must not cost a lease whose message has been sent.
    """

    def __init__(
        self, store: DeliveryStore, metrics: Metrics, log: Logger, *, patience: float
    ) -> None:
        """``patience``: seconds after which an outcome is given up; its lease has run out."""
        self._store = store
        self._metrics = metrics
        self._log = log
        self._patience = patience
        self._waiting: list[Ended] = []
        self._held: dict[int, float] = {}  # deliveries that somebody holds, until when to try
        self._some = asyncio.Event()
        self._pauses: dict[str, tuple[float, str]] = {}  # of origins: until when, and why
        self._early: OrderedDict[int, float] = OrderedDict()  # deliveries not to be tried until
        self._owed: list[Recorded] = []
        self._owing = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()

    def put(self, ended: Ended) -> None:
        """Have an outcome recorded soon."""
        self._waiting.append(ended)
        told = ended.told
        if told.status == "pending" and told.delay:
            self._early[told.id] = monotonic() + told.delay
            if len(self._early) > _OWED:
                self._early.popitem(last=False)
        if told.pause:
            until = monotonic() + told.pause
            if until > self._pauses.get(told.origin, (0.0, ""))[0]:
                self._pauses[told.origin] = (until, told.reason)
        self._none.clear()
        self._some.set()

    def waits(self, delivery: int) -> float:
        """Seconds for which a delivery is not to be tried, as far as the database may not know.

        It may have been away until after the lease; what was asked for holds nevertheless.
        """
        until = self._early.get(delivery)
        if until is None:
            return 0.0
        if (left := until - monotonic()) > 0:
            return left
        del self._early[delivery]
        return 0.0

    async def run(self) -> None:
        """Record for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._record_all())
            group.create_task(self._follow_all())

    async def _record_all(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            await self._tell_pauses()
            while self._waiting:
                # Sorted, so that two replicas never lock the same rows in opposite orders.
                batch, self._waiting = sorted(self._waiting, key=lambda e: e.told.id), []
                await self._record(batch)
                await self._tell_pauses()
                if 0 < len(self._waiting) < _FEW:
                    await asyncio.sleep(_GATHER)
            if not self._owing.is_set() and not self._held:
                self._none.set()

    async def _tell_pauses(self) -> None:
        """Tell the others which origins to leave alone; again if it cannot be written now."""
        now = monotonic()
        self._pauses = {o: pause for o, pause in self._pauses.items() if pause[0] > now}
        if not self._pauses:
            return
        pauses, self._pauses = self._pauses, {}
        left = set(pauses)
        try:
            left = await self._store.pause({o: (at - now, why) for o, (at, why) in pauses.items()})
        except QuotabellError as error:
            self._log.warning("pauses not recorded yet", reason=str(error))
        if left:
            self._pauses = {o: pauses[o] for o in left} | self._pauses
            asyncio.get_running_loop().call_later(_PAUSE, self._some.set)

    async def _follow_all(self) -> None:
        while True:
            await self._owing.wait()
            batch, self._owed = self._owed, []
            if left := await self._follow(batch):
                self._owed = (left + self._owed)[-_OWED:]
                await asyncio.sleep(_PAUSE)
            elif not self._owed:
                self._owing.clear()
                if not self._waiting and not self._held and not self._some.is_set():
                    self._none.set()
            else:
                await asyncio.sleep(_GATHER_OWED)

    async def _follow(self, batch: list[Recorded]) -> list[Recorded]:
        """What is to be tried again."""
        try:
            return await self._store.settling.follow_up(batch)
        except Refused as error:
            self._log.error("follow-ups are refused", deliveries=len(batch), reason=str(error))
            return []
        except QuotabellError as error:
            self._log.warning("follow-ups are held up", reason=str(error))
            return batch

    async def drain(self, within: float) -> None:
        """Wait until nothing is left to record, at most ``within`` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._none.wait()

    async def _record(self, batch: Sequence[Ended]) -> None:
        """Keep trying while the leases last; after that the attempts are `unknown`."""
        deadline = monotonic() + self._patience
        while monotonic() < deadline:
            try:
                recorded, held = await self._store.record(
                    [ended.told for ended in batch], skip=bool(self._held)
                )
            except Conflict:
                continue
            except Unavailable as error:
                self._log.warning("outcomes not recorded yet", reason=str(error))
                await asyncio.sleep(_PAUSE)
                continue
            except Refused as error:
                await self._one_by_one(batch, error)
                return
            self._owed = (self._owed + recorded)[-_OWED:]
            if recorded:
                self._owing.set()
            self._put_off([ended for ended in batch if ended.told.id in held])
            for ended in batch if self._held or self._early else ():
                if ended.told.id not in held:
                    self._held.pop(ended.told.id, None)
                    self._early.pop(ended.told.id, None)
            self._count([e for e in batch if e.told.id not in held], {one.id for one in recorded})
            return
        self._log.error("outcomes given up; they show as unknown", deliveries=len(batch))

    def _put_off(self, batch: Sequence[Ended]) -> None:
        """Record later, apart from all others, what somebody holds the rows of."""
        now = monotonic()
        again = [e for e in batch if self._held.setdefault(e.told.id, now + self._patience) > now]
        for ended in batch:
            if ended not in again:
                del self._held[ended.told.id]
        if given_up := len(batch) - len(again):
            self._log.error("outcomes given up; they show as unknown", deliveries=given_up)
        if again:
            asyncio.get_running_loop().call_later(_PAUSE, self._put_again, again)

    def _put_again(self, batch: Sequence[Ended]) -> None:
        self._waiting += batch
        self._some.set()

    async def _one_by_one(self, batch: Sequence[Ended], error: Refused) -> None:
        """One outcome that the database will not have costs only itself."""
        if len(batch) == 1:
            self._log.error("an outcome is refused", delivery=batch[0].told.id, reason=str(error))
            return
        for ended in batch:
            await self._record([ended])

    def _count(self, batch: Sequence[Ended], held: set[int]) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        for told, channel, seconds in batch:
            if told.id not in held:
                continue
            counts[channel, told.outcome] += 1
            if told.status == "sent":
                self._metrics.delivery_seconds.observe(seconds)
            elif told.status == "expired":
                counts[channel, "expired"] += 1
        for labels, number in counts.items():
            self._metrics.deliveries.labels(*labels).inc(number)
        if lost := len(batch) - len(held):
            self._log.warning("leases were lost before the answer came", deliveries=lost)
