"""When a delivery is tried again, and when no more."""

from __future__ import annotations

from typing import Final, Protocol

BASE: Final = 2.0  # seconds
CAP: Final = 15 * 60.0  # seconds
FLOOR: Final = 0.5  # seconds
MAX_ATTEMPTS: Final = 12


class Rng(Protocol):
    """The part of ``random.Random`` that spreads the tries."""

    def uniform(self, a: float, b: float, /) -> float: ...


def next_attempt(attempt: int, retry_after: float | None, rng: Rng) -> float:
    """Seconds to wait after the ``attempt``-th failed try (the first is 1).

    Exponential with full jitter: anything up to ``min(CAP, BASE * 2 ** (attempt - 1))``, which
    spreads a herd best; at least FLOOR, and never before ``retry_after`` seconds.
    """
    # The exponent is bounded so that no count of attempts overflows.
    window = min(CAP, BASE * 2 ** min(max(attempt, 1) - 1, 32))
    return max(FLOOR, retry_after or 0.0, rng.uniform(0.0, window))


def next_due(
    now: float,
    attempt: int,
    retry_after: float | None,
    expires_at: float,
    rng: Rng,
    *,
    counts: bool = True,
) -> float | None:
    """When to try again, in the unit and clock of ``now``; None: give up.

    Given up is after MAX_ATTEMPTS counted tries, or if the next would come after the message
    has expired. A try that the receiver only throttled (``counts=False``) leaves the limit
    alone: it ends by expiry.
    """
    if counts and attempt >= MAX_ATTEMPTS:
        return None
    due = now + next_attempt(attempt, retry_after, rng)
    return due if due < expires_at else None
