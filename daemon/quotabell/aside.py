"""Work on many items is done beside the event loop, so that it holds up nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

MANY = 1_000  # items; on fewer it takes some milliseconds, and a thread would cost more

P = ParamSpec("P")
T = TypeVar("T")


async def aside(items: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``work`` gives, from a thread if it is on many items: Python lets the event loop go on
    every 5 ms. It must not keep references in circles."""
    if items <= MANY:
        return work(*args, **kwargs)
    return await asyncio.to_thread(undisturbed, lambda: work(*args, **kwargs))


def undisturbed(work: Callable[[], T]) -> T:
    """Work without looking for circles of references meanwhile, of which it makes none.

    Among the objects that a large body gives that takes a tenth of a second and more, during
    which no other thread runs.
    """
    with _collector.paused():
        return work()


class _Collector:
    """The collector of circular garbage, which a process has one of: it runs again when the last
    of those that work at the same time has ended, not the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._working = 0

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        with self._lock:
            self._working += 1
            gc.disable()
        try:
            yield
        finally:
            with self._lock:
                self._working -= 1
                if not self._working:
                    gc.enable()


_collector = _Collector()
