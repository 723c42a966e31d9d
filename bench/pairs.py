"""Interleaved pairs: what disturbs a shared machine disturbs both sides alike."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median

Measure = Callable[[], Awaitable[float]]
"""One run of one side: how much a second."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What is measured. ``at_least`` None: only reported."""

    what: str
    peer: str
    unit: str  # of what is counted a second
    at_least: float | None = None
    aim: float | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    budget: Budget
    ratios: tuple[float, ...]  # ours to the peer's, one a pair
    peer: float  # the median of its figures, a second

    @property
    def ratio(self) -> float:
        return median(self.ratios)

    @property
    def kept(self) -> bool:
        return self.budget.at_least is None or self.ratio >= self.budget.at_least

    def __str__(self) -> str:
        budget = self.budget
        wanted = "no budget" if budget.at_least is None else f"budget ≥ {budget.at_least:.2f}"
        if budget.aim is not None:
            wanted += f", aim {budget.aim:.2f}"
        verdict = "" if budget.at_least is None else (" kept" if self.kept else " MISSED")
        return (
            f"{budget.what}\n"
            f"  {self.ratio:.2f} × {budget.peer}   ({wanted}:{verdict or ' reported'})\n"
            f"  {len(self.ratios)} pairs, {min(self.ratios):.2f} to {max(self.ratios):.2f};"
            f" the peer: {_short(self.peer)} {budget.unit}/s"
        )


def _short(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


async def compare(budget: Budget, ours: Measure, peer: Measure, pairs: int) -> Comparison:
    """Measure both sides ``pairs`` times, taking turns at going first; one run each to warm up."""
    await ours()
    await peer()
    ratios, figures = [], []
    for number in range(pairs):
        if number % 2:
            theirs, own = await peer(), await ours()
        else:
            own, theirs = await ours(), await peer()
        ratios.append(own / theirs)
        figures.append(theirs)
    return Comparison(budget, tuple(ratios), median(figures))
