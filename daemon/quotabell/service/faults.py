"""Named points at which a drill lets the daemon die, to show that it keeps its promises."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

POINTS = ("after_claim", "before_send", "after_send", "in_round")

Fault = Callable[[str], None]


def none(point: str) -> None:
    """The normal case: nothing happens at any point."""


def from_text(text: str) -> Fault:
    """``after_send`` or ``after_send:3``: SIGKILL at the first, or third, pass of that point.

    Empty: `none`. What is about to happen is written first, so that a drill can count it.
    Raises ValueError for an unknown point.
    """
    if not text:
        return none
    name, _, count = text.partition(":")
    if name not in POINTS:
        raise ValueError(f"{name!r} is none of {', '.join(POINTS)}")
    left = int(count or 1)

    def pass_by(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left == 0:
                sys.stderr.write(f"crash point {name} reached\n")
                sys.stderr.flush()
                os.kill(os.getpid(), signal.SIGKILL)

    return pass_by
