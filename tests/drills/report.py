"""What a drill found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Report:
    """``faults``: broken promises, in words. ``figures``: what was measured on the way."""

    faults: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"  {name}: {value}" for name, value in self.figures.items()]
        lines += [f"  FAULT {fault}" for fault in self.faults]
        return "\n".join(lines)
