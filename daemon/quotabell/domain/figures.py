"""Figures of a message: short, never above what is true where more would be alarming or calming.

Amounts and percentages are cut, not rounded, so that what is nearly full never reads as full;
nothing above 9,999 stands there with all its digits.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

_STEPS: Final = ((10**15, "Q", 100), (10**12, "T", 100), (10**9, "B", 100), (10**6, "M", 100))
_THOUSANDS: Final = (1000, "k", 10)
_MOST: Final = 9_999
_DECIMALS: Final = 6
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_YEAR: Final = 365 * _DAY
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    *("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"),
)


def amount(number: int) -> str:
    """1,800,000 → "1.8 M", 12,599 → "12.5 k", 9,999 → "9,999"."""
    if number <= _MOST:
        return f"{max(0, number):,}"
    size, letter, parts = next((step for step in _STEPS if number >= step[0]), _THOUSANDS)
    if number // size > _MOST:
        return f"over {_MOST:,} {letter}"
    whole, part = divmod(number * parts // size, parts)
    digits = f"{part:0{len(str(parts)) - 1}}".rstrip("0")
    return f"{whole:,}.{digits} {letter}" if digits else f"{whole:,} {letter}"


def of(used: int, limit: int) -> str:
    """ "1.8 M of 2 M"; what reads alike and is not says so."""
    mine, all_of_it = amount(used), amount(limit)
    nearly = ""
    if mine == all_of_it and used != limit:
        nearly = "just under " if used < limit else "just over "
    return f"{nearly}{mine} of {all_of_it}"


def percent(used: int, limit: int, level: float | None = None) -> str:
    """Cut to whole percent; to a tenth shortly before 100 %, and as finely as it takes to show
    that a ``level`` is reached."""
    if used * 100 > _MOST * limit:
        return f"over {_MOST:,} %"
    decimals = 1 if 99 * limit <= used * 100 < 100 * limit else 0
    if level is not None and used * 100.0 / limit >= level:
        while decimals < _DECIMALS and _cut(used, limit, decimals) / 10**decimals < level:
            decimals += 1
    whole, part = divmod(_cut(used, limit, decimals), 10**decimals)
    digits = f"{part:0{decimals}}".rstrip("0") if decimals else ""
    return f"{whole:,}.{digits} %" if digits else f"{whole:,} %"


def _cut(used: int, limit: int, decimals: int) -> int:
    parts: int = 10**decimals
    return max(0, used) * 100 * parts // limit


def share(part: int, total: int) -> str | None:
    """A part of a sum in whole percent; None if it is below one."""
    whole = part * 100 // total if total > 0 else 0
    return f"{min(whole, 100)} %" if whole >= 1 else None


def duration(seconds: float, *, cut: bool = False) -> str:
    """In at most two units, to the minute, from a day on to the hour; ``cut``: never longer
    than it is."""
    if not seconds < _YEAR:  # nor a number
        return "over a year"
    if seconds < _MINUTE:
        return "less than a minute"
    minutes = math.floor(seconds / _MINUTE + (0 if cut else 0.5))
    if minutes < 24 * 60:
        return _two(minutes // 60, "h", minutes % 60, "min")
    hours = math.floor(seconds / _HOUR + (0 if cut else 0.5))
    return _two(hours // 24, "d", hours % 24, "h")


def _two(large: int, of_large: str, small: int, of_small: str) -> str:
    units = ((large, of_large), (small, of_small))
    return " ".join(f"{number} {unit}" for number, unit in units if number)


def about(seconds: float) -> str:
    """How long something lasts that is only estimated."""
    text = duration(seconds, cut=True)
    return text if text.startswith(("less", "over")) else f"about {text}"


def rate(per_second: float) -> tuple[str, str]:
    """("1.2 k", "minute"), or per hour where a minute takes less than ten."""
    if per_second * _MINUTE >= 10:
        return amount(_whole(per_second * _MINUTE)), "minute"
    return amount(_whole(per_second * _HOUR)), "hour"


def _whole(number: float) -> int:
    return math.floor(number) if number < 1e30 else 10**30


def zone_of(key: str) -> tzinfo:
    """The zone of that name, UTC if there is none."""
    try:
        return ZoneInfo(key)
    except (KeyError, ValueError, OSError):
        return UTC


def clock(at: datetime, now: datetime, key: str) -> str:
    """ "17:00 Europe/Berlin", with the day unless it is today, with the year if it is far."""
    zone = zone_of(key)
    try:
        local, today = at.astimezone(zone), now.astimezone(zone)
    except OverflowError:  # at the ends of the calendar
        zone, local, today = UTC, at, now
    text = f"{local:%H:%M} {getattr(zone, 'key', 'UTC')}"
    if local.date() == today.date():
        return text
    day = f"{_DAYS[local.weekday()]} {local.day} {_MONTHS[local.month - 1]}"
    far = abs(at - now) > timedelta(days=300)
    return f"{day} {local.year}, {text}" if far else f"{day}, {text}"
