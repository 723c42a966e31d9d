"""Time spans that include sleep."""

from __future__ import annotations

import time

_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", None)  # of Linux


def ticks() -> float:
    """Seconds from some moment on, which go on while the machine sleeps if it can tell.

    `time.monotonic` stands still meanwhile: what it measured would be hours behind at the wake.
    """
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)
