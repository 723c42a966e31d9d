"""Channels over which nothing arrives: operators are told of them over the others."""

from __future__ import annotations

from datetime import timedelta
from time import monotonic

from quotabell.log import Logger
from quotabell.metrics import Metrics
from quotabell.store.health import HealthStore
from quotabell.store.subjects import End, Facts, SubjectStore

FAILS_FOR = timedelta(minutes=15)
EVERY = 10.0  # seconds between two looks


class ChannelWatch:
    """``check`` is a step of the evaluator's round, ``measure`` one of every replica's.

    What is known stands in the database: another replica, or this one after a restart, goes on
    where the last one was.
    """

    def __init__(
        self,
        health: HealthStore,
        alerts: SubjectStore,
        metrics: Metrics,
        log: Logger,
        *,
        fails_for: timedelta = FAILS_FOR,
        every: float = EVERY,
    ) -> None:
        self._health = health
        self._alerts = alerts
        self._metrics = metrics
        self._log = log
        self._fails_for = fails_for
        self._every = every
        self._checked = self._measured = -every

    async def check(self) -> None:
        """Tell of channels that fail, and of those that work again. Raises Unavailable."""
        if monotonic() - self._checked < self._every:
            return
        await self._health.note()
        failing = {one.subject: one for one in await self._health.failing(self._fails_for)}
        found: dict[str, Facts] = {
            one.subject: {
                "channel": one.subject,
                "failingSince": one.failing_since,
                "lastSuccessAt": one.ok_at,
                "error": one.reason,
            }
            for one in failing.values()
        }
        for name in await self._alerts.fire("channel", found):
            self._log.error("a channel does not work", channel=name, reason=failing[name].reason)
        over = {
            one.subject: End(one.reason, {"lastSuccessAt": one.ok_at})
            for one in await self._health.over()
        }
        for name in await self._alerts.resolve("channel", over):
            reason = over[name].reason
            self._log.info("a channel's alert is over", channel=name, reason=reason)
        await self._health.forget()
        self._checked = monotonic()

    async def measure(self) -> None:
        """Bring the gauge up to date; raises Unavailable."""
        if monotonic() - self._measured < self._every:
            return
        found = await self._health.listed()
        self._metrics.channel_failing.clear()
        for name, fails in found.items():
            self._metrics.channel_failing.labels(name).set(fails)
        self._measured = monotonic()
