"""Problems of a configuration file, each at the key path that its author wrote."""

from __future__ import annotations

import re
from typing import Final

Loc = tuple[str | int, ...]
"""Where a value stands: keys and list indices from the top of the file."""

_PLAIN_KEY = re.compile(r"[A-Za-z][A-Za-z_-]{0,31}")


class _Broken:
    """Takes the place of a value that is already reported.

    It has no type that any key accepts, so whatever depends on it fails as well; those
    errors are dropped, and one mistake is told once.
    """

    def __repr__(self) -> str:
        return "<already reported>"


BROKEN: Final = _Broken()


def key_path(loc: Loc) -> str:
    """The path in the words of the file: ``auth.tokens[1].scopes[0]``."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + shown_key(part)
    return text


def shown_key(key: str) -> str:
    """A key fit for a message: in full only if it looks like one.

    ``{name: a, token:s3cret}`` and ``{name: a, s3cret}`` hold a secret in the place of a key.
    """
    if _PLAIN_KEY.fullmatch(key):
        return key
    head = key.partition(":")[0]
    return repr(f"{head}:…" if head != key and _PLAIN_KEY.fullmatch(head) else f"{key[:4]}…")


class Problems:
    """All that is wrong with one file, to be told at once."""

    def __init__(self) -> None:
        self._found: list[tuple[Loc, str]] = []
        self._named: dict[Loc, str] = {}

    def add(self, loc: Loc, text: str) -> None:
        self._found.append((loc, text))

    def call(self, loc: Loc, name: str) -> None:
        """Show problems of the value at ``loc`` under ``name``, where it really came from."""
        self._named[loc] = name

    def lines(self, order: list[str]) -> list[str]:
        """One line a problem: sections in the given ``order``, unknown ones last."""

        def place(found: tuple[Loc, str]) -> tuple[int, list[str]]:
            loc = found[0]
            section = order.index(loc[0]) if loc and loc[0] in order else len(order)
            return section, [f"{part:06}" if isinstance(part, int) else part for part in loc]

        lines = []
        for loc, text in sorted(self._found, key=place):
            where = self._named.get(loc) or key_path(loc)
            line = f"{where}: {text}" if where else text
            if line not in lines:
                lines.append(line)
        return lines

    def __bool__(self) -> bool:
        return bool(self._found)
