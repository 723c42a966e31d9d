"""Forecasts in rounds of evaluation: alerts that a limit will be reached too early."""

from __future__ import annotations

from datetime import datetime, timedelta
from time import monotonic

from quotabell.config.model import Forecast
from quotabell.domain.forecast import Rule, judge
from quotabell.log import Logger
from quotabell.store.forecasts import Candidate, Decision, Facts, ForecastStore
from quotabell.store.samples import FIRST

BATCH = 1_000
SHARE = 1.0  # seconds of a round at most; the next one goes on from there
_CHANGED = 0.1  # share of the time that is left, by which it is other than was told


class Forecaster:
    """A step of the rounds. What is held and what fires is in the database only."""

    def __init__(self, store: ForecastStore, section: Forecast, log: Logger) -> None:
        self._store = store
        self._rule = Rule(section.burn_window, section.hold, section.min_elapsed, section.horizon)
        self._log = log
        self._after = FIRST

    async def foretell(self) -> None:
        """Make, hold and end forecasts, as far as the time of the round goes."""
        until = monotonic() + SHARE
        if self._after == FIRST:
            await self._store.sweep()
        while True:
            part = await self._store.due(
                self._after, BATCH, ahead=self._rule.ahead, horizon=self._rule.horizon
            )
            found = [decide(self._rule, candidate, part.at) for candidate in part.candidates]
            if decisions := [decision for decision in found if decision is not None]:
                done = await self._store.decide(decisions)
                if failed := done.tried - done.done:
                    self._log.warning("forecasts could not be written", states=failed)
            if part.looked_at < BATCH or part.last is None:
                self._after = FIRST
                return
            self._after = part.last
            if monotonic() >= until:
                return


def decide(rule: Rule, candidate: Candidate, now: datetime) -> Decision | None:
    """What is to be done about a state now; None: nothing."""
    verdict = judge(rule, candidate.usage, candidate.known, now)
    news = verdict.action == "rest" and _is_news(candidate, verdict.runs_out, now)
    if verdict.action == "rest" and not news:
        return None
    return Decision(
        candidate.id,
        "note" if news else verdict.action,
        verdict.reason,
        verdict.silent,
        Facts(candidate.usage.pace.burn, verdict.runs_out),
    )


def _is_news(candidate: Candidate, runs_out: datetime | None, now: datetime) -> bool:
    """Whether what the alert says is not true any more, so that a repetition would be wrong."""
    if candidate.known.fired_limit is None or runs_out is None:
        return False
    told = candidate.told
    return told is None or abs(runs_out - told) > max(
        timedelta(minutes=1), _CHANGED * (runs_out - now)
    )
