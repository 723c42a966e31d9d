"""Work on many items is done beside the event loop, so that it holds up nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

MANY = 1_000  # items; on fewer it takes some milliseconds, and a thread would cost more
TURN = 50e-6  # seconds that a thread works on while the event loop waits for its turn

P = ParamSpec("P")
T = TypeVar("T")


async def aside(items: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What ``work`` gives, from a thread if it is on many items: Python lets the event loop go on
    every `TURN`. It must not keep references in circles."""
    if items <= MANY:
        return work(*args, **kwargs)
    return await asyncio.to_thread(undisturbed, lambda: work(*args, **kwargs))


def undisturbed(work: Callable[[], T]) -> T:
    """Work without looking for circles of references meanwhile, of which it makes none.

    Among the objects that a large body gives that takes a tenth of a second and more, during
    which no other thread runs.
    """
    with _process.working():
        return work()


class _Process:
    """Settings that a process has one of, changed while at least one thread works: the collector
    of circular garbage is off, and threads take turns sooner.

    The event loop lets go of the interpreter at every system call, and to have it back takes a
    turn of whoever works: with Python's own 5 ms, a round over some sockets would take 30. A turn
    is also shorter than what lies between two calls that let go of it for a moment too short to
    be used, such as hashing: each makes whoever waits wait for a whole turn anew.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._working = 0
        self._turn = 0.0  # what it was

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        with self._lock:
            if not self._working:
                gc.disable()
                self._turn = sys.getswitchinterval()
                sys.setswitchinterval(TURN)
            self._working += 1
        try:
            yield
        finally:
            with self._lock:
                self._working -= 1
                if not self._working:
                    sys.setswitchinterval(self._turn)
                    gc.enable()


_process = _Process()
