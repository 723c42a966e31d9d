"""What keeps the event loop waiting is seen, and several threads keep it waiting no longer."""

from __future__ import annotations

import asyncio
import gc
import threading
from functools import partial

from quotabell.aside import undisturbed
from tests.support import stall

TRIES = 6


async def test_a_step_that_holds_the_event_loop_is_seen() -> None:
    """On a busy machine a step looks shorter than it is, so it is a long one."""
    for _ in range(TRIES):
        held = await stall.longest_hold(asyncio.to_thread(sum, range(30_000_000)))
        if held > stall.BUDGET:
            return
    raise AssertionError("a step of half a second was not seen")


async def test_large_bodies_at_once_leave_the_collector_off_until_the_last_is_done() -> None:
    begun, go_on = [threading.Event() for _ in range(2)], [threading.Event() for _ in range(2)]

    def work(n: int) -> None:
        begun[n].set()
        assert go_on[n].wait(30)

    threads = [
        asyncio.create_task(asyncio.to_thread(undisturbed, partial(work, n))) for n in (0, 1)
    ]
    for event in begun:
        assert await asyncio.to_thread(event.wait, 30)
    assert not gc.isenabled()
    go_on[0].set()
    await threads[0]
    assert not gc.isenabled()
    go_on[1].set()
    await threads[1]
    assert gc.isenabled()
