"""The sign of life: pings a dead man's switch for as long as rounds of evaluation go well."""

from __future__ import annotations

import asyncio
from typing import Protocol

from quotabell.domain.outcome import Outcome
from quotabell.log import Logger
from quotabell.metrics import Metrics

EVERY = 30.0  # seconds between two pings, at least: a switch with a minute misses one


class Pinger(Protocol):
    async def ping(self, url: str) -> Outcome: ...


class Heartbeat:
    """``note`` is told how rounds go and never waits; ``run`` pings on a task of its own, so a
    switch that hangs holds up no round."""

    def __init__(
        self, url: str, pinger: Pinger, metrics: Metrics, log: Logger, *, every: float = EVERY
    ) -> None:
        """``url`` empty: there is no switch."""
        self._url = url
        self._pinger = pinger
        self._metrics = metrics
        self._log = log
        self._every = every
        self._well = asyncio.Event()
        self._accepted = True

    def note(self, well: bool) -> None:
        """A round has ended: well, or not (also one of a replica that only stands by)."""
        if well and self._url:
            self._well.set()
        else:
            self._well.clear()

    async def run(self) -> None:
        """Ping for ever, each time after a round that went well."""
        while True:
            await self._well.wait()
            self._well.clear()
            outcome = await self._pinger.ping(self._url)
            self._metrics.heartbeat_pings.labels(outcome.kind).inc()
            self._tell(outcome)
            await asyncio.sleep(self._every)

    def _tell(self, outcome: Outcome) -> None:
        accepted = outcome.kind == "sent"
        if self._accepted and not accepted:
            self._log.warning(
                "the heartbeat is not accepted", status=outcome.status, reason=outcome.reason
            )
        elif accepted and not self._accepted:
            self._log.info("the heartbeat is accepted again")
        self._accepted = accepted
