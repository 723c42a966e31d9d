"""Who waits for a send to which origin."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from quotabell.log import Logger
from quotabell.service.origins import PER_ORIGIN
from quotabell.store.delivery import Claimed

_SLICE = 8  # sends begun before others get their turn: some 3 ms of encryption

Send = Callable[[Claimed, float], Awaitable[None]]


class Lines:
    """Has deliveries sent, of each origin so many at once. Others never wait for them.

    A task sends one after the other, as long as any wait: beginning one for each would cost a
    tenth of what sending it does.
    """

    def __init__(
        self, send: Send, spawn: Callable[[Coroutine[Any, Any, None]], None], log: Logger
    ) -> None:
        """``send`` is given a delivery and until when (monotonic) its lease lasts."""
        self._send = send
        self._spawn = spawn
        self._log = log
        self._waiting: dict[str, deque[tuple[Claimed, float]]] = {}
        self._busy: Counter[str] = Counter()

    async def put(self, claimed: Sequence[Claimed], until: float) -> None:
        """Have all of them sent; returns when all have been given their place."""
        for n, delivery in enumerate(claimed):
            if n % _SLICE == 0:
                await asyncio.sleep(0)
            self._waiting.setdefault(delivery.origin, deque()).append((delivery, until))
            if self._busy[delivery.origin] < PER_ORIGIN:
                self._busy[delivery.origin] += 1
                self._spawn(self._serve(delivery.origin))

    async def _serve(self, origin: str) -> None:
        try:
            while waiting := self._waiting.get(origin):
                delivery, until = waiting.popleft()
                try:
                    await self._send(delivery, until)
                except Exception as error:
                    self._log.error("a delivery failed in an unforeseen way", exc_info=error)
        finally:
            self._busy[origin] -= 1
            if not self._busy[origin]:
                del self._busy[origin]
                if not self._waiting.get(origin):
                    self._waiting.pop(origin, None)
