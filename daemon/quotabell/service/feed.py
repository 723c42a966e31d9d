"""Alertmanager is told by level: all alerts that fire once a minute, those that ended for 5 more.

So a restart of Alertmanager, or a post that is lost, heals by itself. What was told at once, when
it happened, has its delivery in the history; what is told again here has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from quotabell.errors import QuotabellError
from quotabell.log import Logger
from quotabell.metrics import Metrics
from quotabell.service.channels import TOLD_OF_END, Alertmanager, OperatorChannels
from quotabell.store.feed import AlertNow, FeedStore

EVERY = 60.0  # seconds
_CHUNK = 500  # alerts in one post: some 350 KiB
_LOOK = 1.0  # seconds until a replica notices that it leads now


class AlertFeed:
    """Posts to every Alertmanager while this replica leads; apart from the rounds of evaluation,
    which a receiver that hangs must not hold up."""

    def __init__(
        self,
        store: FeedStore,
        channels: OperatorChannels,
        metrics: Metrics,
        log: Logger,
        *,
        leading: Callable[[], bool],
        every: float = EVERY,
    ) -> None:
        self._store = store
        self._channels = channels
        self._metrics = metrics
        self._log = log
        self._leading = leading
        self._every = every
        self._next = 0.0
        self._told: object = ()

    async def run(self) -> None:
        """Post for ever; at once where others are to be told than before."""
        while True:
            receivers = self._channels.alertmanagers
            if self._leading() and (monotonic() >= self._next or receivers is not self._told):
                self._next, self._told = monotonic() + self._every, receivers
                try:
                    await self.post()
                except QuotabellError as error:
                    self._log.warning("alerts are not told again", reason=str(error))
            await asyncio.sleep(min(_LOOK, self._every))

    async def post(self) -> None:
        """Tell every receiver of all alerts that are for it; raises Unavailable."""
        left = list(self._channels.alertmanagers)
        if not left:
            return
        async for page in self._store.pages(TOLD_OF_END, _CHUNK):
            reached = await asyncio.gather(*(self._post(page, to) for to in left))
            left = [to for to, well in zip(left, reached, strict=True) if well]
            if not left:
                return

    async def _post(self, page: list[AlertNow], to: Alertmanager) -> bool:
        """Whether the receiver may be told of more in this turn."""
        wanted = [alert for alert in page if to.wants(alert)]
        if not wanted:
            return True
        outcome = await self._channels.post_all(wanted, to)
        self._metrics.alert_posts.labels(to.name, outcome.kind).inc()
        if outcome.kind != "sent":
            self._log.warning(
                "alerts not told again", channel=to.name, reason=outcome.reason, alerts=len(wanted)
            )
        return outcome.kind != "retry"
