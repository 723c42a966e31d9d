"""The rounds of one replica: hold the lease, then put right what the fast path missed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from time import monotonic

from quotabell.errors import QuotabellError
from quotabell.log import Logger
from quotabell.metrics import Metrics
from quotabell.service import faults
from quotabell.store.leases import LeaseStore

LEASE = "evaluate"
_LEASE_SECONDS = 10.0

Step = Callable[[], Awaitable[bool | None]]
"""Part of a round; True: its share of the time was over before its work."""


class Evaluator:
    """Runs the steps of a round every ``every`` seconds while it holds the lease.

    Before them come the steps of ``everywhere``, on every replica, with or without the lease.

    The lease is renewed only after a finished round, so a replica that hangs loses it. Its
    holder is the instance of the data directory, so a restarted daemon takes its own lease
    back at once. Two that both believe to hold it do no harm: every step may be repeated.
    """

    def __init__(
        self,
        leases: LeaseStore,
        metrics: Metrics,
        log: Logger,
        *,
        instance: str,
        every: float,
        steps: Sequence[Step] = (),
        everywhere: Sequence[Step] = (),
        ended: Callable[[bool], None] = lambda well: None,
        progress: Callable[[], None] = lambda: None,
        fault: faults.Fault = faults.none,
    ) -> None:
        """``ended`` is told of each round: whether this replica held the lease and all its steps
        went well; ``progress`` is called whenever a step or a round has ended, well or not."""
        self._leases = leases
        self._metrics = metrics
        self._log = log
        self._instance = instance
        self._every = every
        self._steps = steps
        self._everywhere = everywhere
        self._ended = ended
        self._progress = progress
        self._fault = fault
        self._failed = False  # a step of this round
        self._left: list[Step] = []  # whose share of the time was over before their work
        self._duration = timedelta(seconds=max(_LEASE_SECONDS, 2 * every))
        self._held_until = 0.0
        self._finished = monotonic()
        self._woken = asyncio.Event()
        metrics.leader.set_function(lambda: float(self.leading))
        metrics.evaluate_lag.set_function(lambda: monotonic() - self._finished)

    @property
    def leading(self) -> bool:
        """Whether this replica holds the lease at this moment."""
        return monotonic() < self._held_until

    async def run(self) -> None:
        """Rounds for ever; a failed round is logged and the next one tries again."""
        while True:
            started = monotonic()
            self._woken.clear()
            try:
                await self.round()
                if await self._go_on(started + max(self._every, 2 * (monotonic() - started))):
                    continue
            except QuotabellError as error:
                self._ended(False)
                self._log.warning("round of evaluation failed", reason=str(error))
            self._progress()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._every - (monotonic() - started))):
                    await self._woken.wait()

    async def _go_on(self, until: float) -> bool:
        """Take the steps again that were not done, and no others; whether they still are not.

        A round looks at every open state. With a million of them that takes longer than the share
        of a step, so what is left would wait most of the time for what has just been done.
        """
        while self._left and self.leading and monotonic() < until and not self._woken.is_set():
            self._left = await self._take(self._left)
            await self.hold()
        return bool(self._left)

    def wake(self) -> None:
        """Begin the next round at once."""
        self._woken.set()

    async def round(self) -> bool:
        """One round, if the lease can be had; whether work is left for one at once.

        Raises Unavailable if the lease cannot be asked for.
        """
        self._failed = False
        self._left = await self._take(self._everywhere)
        well = False
        if self.leading or await self.hold():
            self._left += await self._take(self._steps)
            well = await self.hold() and not self._failed
        self._finished = monotonic()
        self._ended(well)
        return bool(self._left)

    async def _take(self, steps: Sequence[Step]) -> list[Step]:
        left = []
        for step in steps:
            try:
                if await step():
                    left.append(step)
            except QuotabellError as error:
                # The other steps do not wait for what this one lacks.
                self._failed = True
                self._log.warning("a step of the round failed", reason=str(error))
            self._progress()
            self._fault("in_round")
        return left

    async def hold(self) -> bool:
        """Take or renew the lease, if it can be had; raises Unavailable."""
        asked = monotonic()
        held = await self._leases.hold(LEASE, self._instance, self._duration)
        was = self.leading
        self._held_until = asked + self._duration.total_seconds() if held else 0.0
        if held and not was:
            self._log.info("evaluating for all replicas")
        elif was and not held:
            self._log.warning("another replica evaluates now")
        return held

    async def release(self) -> None:
        """Give the lease up, so that another replica goes on without waiting for its end."""
        if self._held_until:
            self._held_until = 0.0
            with contextlib.suppress(QuotabellError):
                await self._leases.release(LEASE, self._instance)
