"""A message before it is known how much of it there is room for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from quotabell.domain.facts import Words

SHORT: Final = 178  # characters of title, a line break and body
LONG: Final = 600  # of title, a line break and text


@dataclass(slots=True)
class Draft:
    """A message at one width of its names. What is ranked 0 belongs into it; the rest as far as
    there is room, in the order of the ranks."""

    title: str
    parts: list[tuple[int, str]] = field(default_factory=list)
    lines: list[tuple[int, str]] = field(default_factory=list)

    def say(self, rank: int, part: str | None) -> None:
        """Add to the short form."""
        if part:
            self.parts.append((rank, part))

    def tell(self, rank: int, line: str | None) -> None:
        """Add a line to the long form."""
        if line:
            self.lines.append((rank, line))

    def room(self, most: int) -> int:
        """What the title leaves of so many characters."""
        return most - len(self.title) - 1

    def fits(self) -> bool:
        """Whether all that belongs into it finds room."""
        parts = ", ".join(part for rank, part in self.parts if rank == 0)
        lines = "\n".join(line for rank, line in self.lines if rank == 0)
        return len(parts) <= self.room(SHORT) and len(lines) <= self.room(LONG)

    def words(self) -> Words:
        body = _filled(self.parts, ", ", self.room(SHORT))
        return Words(self.title, body, _filled(self.lines, "\n", self.room(LONG)))


def _filled(pieces: Sequence[tuple[int, str]], joint: str, room: int) -> str:
    """As many pieces as there is room for, the most important first, in their own order."""
    taken: set[int] = set()
    room += len(joint)
    for n in sorted(range(len(pieces)), key=lambda n: pieces[n][0]):
        length = len(joint) + len(pieces[n][1])
        if length <= room:
            room -= length
            taken.add(n)
    return joint.join(pieces[n][1] for n in sorted(taken))
