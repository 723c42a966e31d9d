"""LISTEN: hints that something may be due. Nothing is ever lost if one never comes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import asyncpg

from quotabell.errors import QuotabellError
from quotabell.log import Logger
from quotabell.store.database import CONNECT_TIMEOUT, translated

CHANNEL = "quotabell"
_HEARTBEAT = 10.0  # seconds; a dead socket is found within this and the next
_ANSWER = 5.0
_PAUSES = (0.25, 0.5, 1.0)


class HintListener:
    """Keeps a session that listens, for ever; ``up`` while it does.

    ``on_hint`` gets each hint's payload, and an empty one after every (re)connect: what
    happened in between can only be found by looking.
    """

    def __init__(self, dsn: str, on_hint: Callable[[str], None], log: Logger) -> None:
        self._dsn = dsn
        self._on_hint = on_hint
        self._log = log
        self.up = False

    async def run(self) -> None:
        """Listen for ever; raises nothing but what is unforeseen."""
        failures = 0
        while True:
            try:
                await self._listen()
            except QuotabellError as error:
                failures = failures + 1 if not self.up else 0
                self._log.info("not listening", reason=str(error))
            finally:
                self.up = False
            await asyncio.sleep(_PAUSES[min(failures, len(_PAUSES) - 1)])

    async def _listen(self) -> None:
        with translated():
            connection = await asyncpg.connect(
                self._dsn, timeout=CONNECT_TIMEOUT, command_timeout=_ANSWER, statement_cache_size=0
            )
            lost = asyncio.Event()
            try:
                connection.add_termination_listener(lambda _: lost.set())
                await connection.add_listener(CHANNEL, self._hint)
                self.up = True
                self._on_hint("")
                while not lost.is_set():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_HEARTBEAT):
                            await lost.wait()
                    await connection.execute("select 1")
            finally:
                connection.terminate()

    def _hint(self, connection: Any, pid: int, channel: str, payload: object) -> None:
        self._on_hint(str(payload))
