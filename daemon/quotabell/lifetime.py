"""What the daemon runs in the background, and what it waits for at its start."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from quotabell.errors import Unavailable
from quotabell.log import Logger

_AGAIN = 1.0  # seconds between two tries to cancel a task


class Tasks:
    """The daemon's background tasks: any of them that ends, ends the daemon.

    Each is cancelled by the stack in its turn: after all that was acquired later, before
    what it works on is released.
    """

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self._stack = stack
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        self._stack.push_async_callback(_cancel, task)

    async def until(self, stop: asyncio.Event) -> None:
        """Wait for ``stop``; raises the error of the first task that crashed before it."""
        asked = asyncio.create_task(stop.wait())
        self._stack.push_async_callback(_cancel, asked)
        done, _ = await asyncio.wait({asked, *self._running}, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {asked}:
            task.result()
            raise RuntimeError("a background task ended by itself")


async def _cancel(task: asyncio.Task[Any]) -> None:
    """Cancel it until it has ended.

    Once is not enough: asyncpg undoes the transaction that it is within, and where the server
    hangs the error of that takes the place of the cancellation, after which the task goes on.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=_AGAIN)
    if not task.cancelled():
        task.exception()  # no complaint of nobody having asked


class Leaving(Protocol):
    """A database at the end: whether it hangs, and what ends all that waits for it."""

    silent: bool

    async def probe(self) -> None: ...

    def abandon(self) -> None: ...


async def leave(database: Leaving) -> None:
    """Wait no more for a database that does not answer: whoever still does would at the end, each
    in its turn, and the daemon be killed before it has sent what it can. Nobody waits for one that
    refuses, and it may be back before the last answer to what is sent has to be noted."""
    await database.probe()
    if database.silent:
        database.abandon()


async def last_word(reachable: Callable[[], bool], say: Callable[[], Awaitable[object]]) -> None:
    """Say something to the database at the end, if it listens: one that hangs costs seconds for
    each who tries, and what is said here can do without."""
    if reachable():
        await say()


async def patiently(connect: Callable[[], Awaitable[object]], log: Logger, patience: float) -> None:
    """Call until the database can be reached; Unavailable after ``patience`` seconds."""
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            await connect()
            return
        except Unavailable as error:
            if asyncio.get_running_loop().time() > deadline:
                raise
            log.warning("waiting for the database", reason=str(error))
            await asyncio.sleep(0.5)
