"""How much of a processor this machine has left over, for tests of time.

A budget in milliseconds is meant for a machine that has nothing else to do. On a busy one work
takes longer by the share that others take, which can be measured.
"""

from __future__ import annotations

import time


def contention(work: float = 0.05) -> float:
    """How many times longer work takes than it would alone: 1.0 if nobody else works.

    ``work``: seconds of processor time to measure it with.
    """
    began, used = time.perf_counter(), time.thread_time()
    while time.thread_time() - used < work:
        pass
    return max(1.0, (time.perf_counter() - began) / (time.thread_time() - used))
