"""Room for all large bodies that are read at once, so that many together stay bounded."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from typing import Any

from aiohttp import web

from quotabell.errors import Unavailable

TOGETHER = 256 * 1024 * 1024  # bytes
PATIENCE = 2.0  # seconds; exporters give up after 10, and are to ask again before


class Share:
    """Some bytes of the room."""

    def __init__(self, bodies: Bodies, size: int) -> None:
        self._bodies = bodies
        self._loop = asyncio.get_running_loop()
        self.size = size

    def shrink(self, size: int) -> None:
        """Give back what is more than ``size``. On the loop's thread only."""
        given, self.size = max(0, self.size - size), min(self.size, size)
        self._bodies.take_back(given)

    def give_back_with(self, memory: Any) -> None:
        """Give it back when ``memory`` is gone, in whichever thread that is."""
        weakref.finalize(memory, self._gone).atexit = False

    def _gone(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self.shrink, 0)


class Bodies:
    """How much large bodies may take together. Who asks first is served first."""

    def __init__(self, size: int = TOGETHER) -> None:
        self.size = size
        self.free = size
        self._turn = asyncio.Lock()
        self._more = asyncio.Event()

    async def share(self, size: int) -> Share:
        """Room for ``size`` bytes, or all there is; Unavailable if not within `PATIENCE`."""
        size = min(size, self.size)
        try:
            async with asyncio.timeout(PATIENCE), self._turn:
                while size > self.free:
                    self._more.clear()
                    await self._more.wait()
                self.free -= size
                return Share(self, size)
        except TimeoutError:
            raise Unavailable("too many large bodies at once; send it again shortly") from None

    def take_back(self, size: int) -> None:
        """So many bytes are free again."""
        self.free += size
        self._more.set()


BODIES = web.AppKey("BODIES", Bodies)
"""All requests of a daemon share one."""
