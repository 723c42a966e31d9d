"""Durations and sizes as people write them: ``1h30m``, ``32MiB``.

Durations become ``timedelta``: it cannot be mistaken for milliseconds, and a type checker
sees a bare number in its place.
"""

from __future__ import annotations

import re
from datetime import timedelta

_DURATION_UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}
_AMOUNT = r"[0-9]{1,9}(?:\.[0-9]{1,6})?"
# (?![a-z]): m must not take the first letter of ms.
_DURATION = re.compile(
    "".join(f"(?:(?P<{unit}>{_AMOUNT}){unit}(?![a-z]))?" for unit in _DURATION_UNITS)
)
_NUMBER = re.compile(_AMOUNT)

_SIZE_UNITS = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
}
_SIZE = re.compile(rf"([0-9]{{1,18}}) ?({'|'.join(_SIZE_UNITS)})?")


def parse_duration(value: object) -> timedelta:
    """A duration from ``1h30m`` (units w d h m s ms, the largest first) or seconds.

    Raises ValueError for anything else, negative and non-finite numbers included.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value <= 1e10:  # false for NaN
            raise ValueError("is no duration in seconds")
        return timedelta(seconds=value)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match or not match[0]:
        raise ValueError(f"{_short(value)} is no duration: write it like 5s, 2m, 1h30m or 35d")
    amounts = {unit: float(text) for unit, text in match.groupdict().items() if text}
    try:
        return sum((amounts[unit] * _DURATION_UNITS[unit] for unit in amounts), timedelta())
    except OverflowError:
        raise ValueError(f"{_short(value)} is too long a duration") from None


def format_duration(value: timedelta) -> str:
    """The shortest text that ``parse_duration`` turns back into ``value``; days at most."""
    left = value
    text = ""
    for unit in ("d", "h", "m"):
        amount, left = divmod(left, _DURATION_UNITS[unit])
        text += f"{amount}{unit}" if amount else ""
    if left and left < timedelta(seconds=1) and left % timedelta(milliseconds=1) == timedelta():
        return f"{text}{left // timedelta(milliseconds=1)}ms"
    if left or not text:
        text += f"{left.total_seconds():.6f}".rstrip("0").rstrip(".") + "s"
    return text


def parse_size(value: object) -> int:
    """A size in bytes from ``32MiB``, ``512KiB``, ``10MB`` or a whole number of bytes.

    Raises ValueError for anything else.
    """
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**18:
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if not match:
        units = ", ".join(dict.fromkeys(_SIZE_UNITS))
        raise ValueError(f"{_short(value)} is no size: write it like 32MiB; units: {units}")
    return int(match[1]) * _SIZE_UNITS[match[2] or "B"]


def format_size(value: int) -> str:
    """The size in the largest binary unit that divides it."""
    for unit in ("GiB", "MiB", "KiB"):
        if value and value % _SIZE_UNITS[unit] == 0:
            return f"{value // _SIZE_UNITS[unit]}{unit}"
    return f"{value}B"


def _short(value: object) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:40] + "…")
    return "this"
