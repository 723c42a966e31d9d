"""Quota states follow the configured quotas: counted anew where a definition changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from time import monotonic

from quotabell.config import Quota
from quotabell.domain import periods
from quotabell.domain.charging import InForce
from quotabell.domain.periods import Period
from quotabell.errors import QuotabellError
from quotabell.log import Logger
from quotabell.metrics import Metrics
from quotabell.service.ring import SHARE
from quotabell.store.quotas import Definition, QuotaStore, Work, quota_in

EVENTS = 2_000  # counted again at a time: some 30 ms in another thread
STATES = 1_000  # compared at a time; writers wait for those that ring, some 0.3 ms each
AHEAD = timedelta(days=3)  # for which periods are known
MOST_PERIODS = 100


class Counting:
    """`put` brings quotas into force, the rest are steps of a round of evaluation."""

    def __init__(self, store: QuotaStore, metrics: Metrics, log: Logger) -> None:
        self._store = store
        self._metrics = metrics
        self._log = log

    async def put(self, quotas: Sequence[Quota]) -> None:
        """Bring these and no other quotas into force; raises Unavailable, Conflict."""
        now = self._store.database.clock.now()
        wanted = []
        for section in quotas:
            quota = quota_in(section)
            wanted.append(Definition(section, quota, quota.period_of(now).start))
        if await self._store.put(wanted):
            self._log.info("quotas changed", quotas=[d.quota.name for d in wanted])
        await self.keep_periods()

    async def keep_periods(self) -> None:
        """Keep the database told of the periods to come."""
        now = self._store.database.clock.now()
        await self._store.keep_periods(lambda quotas: _periods(quotas, now))

    async def follow(self) -> bool:
        """Let states follow their quotas; whether the time was too short."""
        until = monotonic() + SHARE
        waiting = await self._store.at_work()
        for work in waiting:
            try:
                while await self._some(work):
                    if monotonic() > until:
                        return True
            except QuotabellError as error:
                self._log.warning("quota not followed", quota=work.quota, reason=str(error))
        left = await self._store.at_work() if waiting else []
        self._metrics.recount_pending.set(len(left))
        # What was counted is yet to be compared; what another replica works on is left to it.
        return any(work not in waiting for work in left)

    async def _some(self, work: Work) -> bool:
        if work.phase == "recount":
            return await self._store.recount(work.quota, EVENTS)
        return await self._store.settle(work.quota, STATES)


def _periods(quotas: InForce, now: datetime) -> Iterator[tuple[str, Period]]:
    for quota in quotas.book.quotas:
        for period in periods.around(quota.window, now, AHEAD, MOST_PERIODS):
            yield quota.name, period
