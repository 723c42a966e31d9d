"""Work on many items is done beside the event loop, so that it holds up nobody else."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
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
    gc.disable()
    try:
        return work()
    finally:
        gc.enable()
