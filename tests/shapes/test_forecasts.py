"""How good forecasts are: limits that are warned of in time, and false alarms, by shape of usage.

The figures are printed (``pytest -s``), beside those of the forecast that everybody makes first:
what was used so far ÷ the time so far.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

import pytest

from tests.shapes.quotas import LEAD, RULE, Firing, Period, forecasts, naive, quotas
from tests.shapes.usage import DAY, LENGTH, SHAPES, usage

SEEDS = range(10)
FRESH = 2  # seeds of each shape that no run had before
WARNED = 0.95
FALSE = 1.0  # alarms a quota and 30 days
EXCLUDED = 0.05  # of all exhaustions, nobody could have warned of in time


@dataclass
class Figures:
    """Of some quotas. An exhaustion is warned of if an alert fires 15 minutes before it, a false
    alarm is one in a period that does not exhaust. ``late``: warned of, but later."""

    exhausted: int = 0
    warned: int = 0
    late: int = 0
    sudden: int = 0
    sudden_warned: int = 0
    sudden_told: int = 0
    too_early: int = 0
    false: int = 0
    days: float = 0.0
    premature: int = 0
    leads: list[int] = field(default_factory=list)

    def add(self, period: Period, alarms: Sequence[Firing]) -> None:
        self.days += len(period.used) / DAY
        first = RULE.min_elapsed * len(period.used)
        self.premature += sum(alarm.start + 1 < first for alarm in alarms)
        full = period.full
        if full is None:
            self.false += len(alarms)
            return
        in_time = [full - a.start for a in alarms if a.start <= full - LEAD <= a.end]
        told = any(alarm.end == full for alarm in alarms)
        if period.too_early:
            self.too_early += 1
        elif period.sudden:
            self.sudden += 1
            self.sudden_warned += bool(in_time)
            self.sudden_told += told
        else:
            self.exhausted += 1
            self.warned += bool(in_time)
            self.late += told and not in_time
            self.leads += in_time

    @property
    def share(self) -> float:
        """Of exhaustions that were warned of in time."""
        return self.warned / self.exhausted if self.exhausted else 1.0

    @property
    def everything(self) -> int:
        """All exhaustions, also those that nobody could have warned of in time."""
        return self.exhausted + self.sudden + self.too_early

    @property
    def share_of_everything(self) -> float:
        return (self.warned + self.sudden_warned) / self.everything if self.everything else 1.0

    @property
    def false_rate(self) -> float:
        """False alarms a quota and 30 days."""
        return self.false / self.days * 30

    def __str__(self) -> str:
        lead = median(self.leads or [0])
        return (
            f"{self.warned:4}/{self.exhausted:<4} {self.share:6.1%}  lead {lead:6.0f} min"
            f"  false {self.false_rate:5.2f}  late {self.late}"
            f"  sudden {self.sudden} (in time {self.sudden_warned}, told {self.sudden_told})"
            f"  too early {self.too_early}  of all {self.share_of_everything:.1%}"
        )


Results = dict[str, Figures]


def figures(seeds: Iterable[int], *methods: Callable[[Period], list[Firing]]) -> list[Results]:
    """For each method: of each shape, of its quotas of each window, and of all."""
    results: list[Results] = [{"all": Figures()} for _ in methods]
    for shape in SHAPES:
        for quota in (quota for seed in seeds for quota in quotas(shape, seed)):
            for period in quota.periods():
                for result, method in zip(results, methods, strict=True):
                    alarms = method(period)
                    for name in ("all", shape, f"{shape}, {quota.window}"):
                        result.setdefault(name, Figures()).add(period, alarms)
    return results


def table(title: str, results: Results) -> str:
    lines = [f"{name:22}{figures}" for name, figures in sorted(results.items())]
    return "\n".join((title, *lines))


def shortfalls(results: Results, names: Iterable[str]) -> list[str]:
    """What is not as good as promised."""
    found = []
    for name in names:
        got = results[name]
        if got.share < WARNED:
            found.append(f"{name}: {got.share:.1%} warned of in time")
        if got.false_rate > FALSE:
            found.append(f"{name}: {got.false_rate:.2f} false alarms")
        if got.premature:
            found.append(f"{name}: {got.premature} alarms before min_elapsed")
    return found


def test_limits_are_warned_of_in_time_and_seldom_falsely() -> None:
    ours, simple = figures(SEEDS, forecasts, naive)
    print(table("\nforecasts", ours), table("used so far / time so far", simple), sep="\n\n")

    assert not shortfalls(ours, ("all", *SHAPES))
    assert ours["all"].share_of_everything >= WARNED
    assert ours["all"].exhausted >= (1 - EXCLUDED) * ours["all"].everything
    # What the figures are judged by can tell a good forecast from a bad one.
    assert shortfalls(simple, ("all", *SHAPES))


def test_so_it_is_with_seeds_that_no_run_had_before() -> None:
    seeds = [secrets.randbelow(10**9) for _ in range(FRESH)]
    [ours] = figures(seeds, forecasts)

    found = shortfalls(ours, ("all",))
    assert not found, table(f"{found}; to repeat it: figures({seeds}, forecasts)", ours)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_seed_gives_the_same_usage_every_time(shape: str) -> None:
    first = usage(shape, 7)

    assert first == usage(shape, 7) != usage(shape, 8)
    assert len(first) == LENGTH
    assert min(first) >= 0 < sum(first)


def test_some_quotas_exhaust_and_some_do_not() -> None:
    full = [
        period.full is not None
        for shape in SHAPES
        for quota in quotas(shape, 1)
        for period in quota.periods()
    ]

    assert 0.1 < sum(full) / len(full) < 0.9
