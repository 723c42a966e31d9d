"""Work whose result several ask for at once is done once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Result = TypeVar("Result")


class Shared(Generic[Key, Result]):
    """``make`` runs once at a time for each key.

    Who asks while it runs shares the next run with all others who do: a result is never of
    before it was asked for. Who gives up waiting stops nobody else.
    """

    def __init__(self, make: Callable[[Key], Awaitable[Result]]) -> None:
        self._make = make
        self._running: dict[Key, asyncio.Task[Result]] = {}
        self._next: dict[Key, asyncio.Task[Result]] = {}

    async def __call__(self, key: Key) -> Result:
        """The result of a run that begins from now on; raises what it raises."""
        task = self._next.get(key)
        if task is None:
            task = asyncio.create_task(self._run(key, self._running.get(key)))
            task.add_done_callback(_noted)
            self._next[key] = task
        return await asyncio.shield(task)

    async def _run(self, key: Key, before: asyncio.Task[Result] | None) -> Result:
        if before is not None:
            await asyncio.wait([before])
        self._running[key] = self._next.pop(key)
        try:
            return await self._make(key)
        finally:
            if key not in self._next:
                del self._running[key]


def _noted(task: asyncio.Task[Result]) -> None:
    """An error that nobody waits for any more is none."""
    if not task.cancelled():
        task.exception()
