"""Text for terminals: colour, width, bars, and figures as people read them."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TextIO

Colour = Literal["red", "yellow", "green", "dim", "bold"]

_CODES: Mapping[Colour, str] = {
    "red": "31",
    "yellow": "33",
    "green": "32",
    "dim": "2",
    "bold": "1",
}
_UNPRINTABLE = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_NARROWEST, _WIDEST, _PIPED = 40, 160, 100


@dataclass(frozen=True, slots=True)
class Terminal:
    """What can be shown. ``width`` in columns."""

    colour: bool = False
    width: int = _PIPED
    blocks: bool = True

    def paint(self, text: str, colour: Colour | None) -> str:
        """``text`` in a colour, if there is any."""
        if not self.colour or colour is None or not text:
            return text
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"

    def bar(self, share: float, width: int) -> str:
        """A bar of ``width`` columns, of which ``share`` (0 to 1, more is full) is filled."""
        filled = min(width, int(max(0.0, share) * width))
        full, empty = ("█", "░") if self.blocks else ("#", "-")
        return full * filled + empty * (width - filled)


def terminal(stream: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> Terminal:
    """The terminal that ``stream`` (default: standard output) leads to.

    Colour only if it is one, and neither NO_COLOR (https://no-color.org) nor TERM=dumb says no.
    """
    stream = stream or sys.stdout
    tty = stream.isatty()
    width = (
        shutil.get_terminal_size((_PIPED, 24)).columns if tty or "COLUMNS" in environ else _PIPED
    )
    return Terminal(
        colour=tty and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb",
        width=max(_NARROWEST, min(_WIDEST, width)),
        blocks=(stream.encoding or "").lower().replace("-", "").startswith("utf"),
    )


def printable(text: object) -> str:
    """``text`` without what could steer a terminal: names come from whoever reports."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", str(text))


def cut(text: str, width: int) -> str:
    """``text`` in ``width`` columns at most."""
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def duration(length: timedelta) -> str:
    """About how long: 42 s, 12 min, 3 h 5 min, 4 d 2 h."""
    seconds = max(0, int(length.total_seconds()))
    for size, unit, inner, fine in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if seconds >= size:
            more = seconds % size // inner
            return f"{seconds // size} {unit}" + (f" {more} {fine}" if more else "")
    return f"{seconds // 60} min" if seconds >= 60 else f"{seconds} s"


def moment(text: str | None) -> datetime | None:
    """A time of an answer."""
    return datetime.fromisoformat(text) if text else None


def table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Rows as columns, the last one cut at ``width``."""
    if not rows:
        return []
    sizes = [max(len(row[n]) for row in rows) for n in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        head = "  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=False))
        lines.append(cut(f"{head}  {row[-1]}".rstrip(), width))
    return lines
