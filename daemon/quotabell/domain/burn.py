"""Where the present burn of a quota leads."""

from __future__ import annotations

from datetime import datetime, timedelta


def exhausts_at(
    used: int,
    limit: int | None,
    burn: float | None,
    at: datetime,
    period_end: datetime | None,
) -> datetime | None:
    """When the limit is reached at ``burn`` tokens per second, from what was used ``at``.

    None if that cannot be said, is so already, or is not before the period ends.
    """
    if limit is None or not burn or used >= limit:
        return None
    try:
        reached = at + timedelta(seconds=(limit - used) / burn)
    except OverflowError:  # after the year 9999
        return None
    return reached if period_end is None or reached < period_end else None
