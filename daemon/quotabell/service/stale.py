"""Sources that stopped: a step of the evaluator's round."""

from __future__ import annotations

from datetime import timedelta

from quotabell.config import Config
from quotabell.domain.staleness import Watched
from quotabell.log import Logger
from quotabell.store.rounds import RoundStore
from quotabell.store.staleness import Silent, StalenessStore
from quotabell.store.subjects import End, Facts, SubjectStore

PATIENCE = timedelta(seconds=10)  # between rounds, or three of them; longer is an outage


def watched_of(config: Config) -> Watched:
    """Which sources a configuration has watched."""
    overrides = [(rule.source, rule.after) for rule in config.sources.stale]
    return Watched(config.alerts.stale_after, tuple(overrides))


class SourceWatch:
    """``listening`` comes before reports are taken, ``check`` in every round. ``replace``
    changes what is watched."""

    def __init__(
        self,
        rounds: RoundStore,
        sources: StalenessStore,
        alerts: SubjectStore,
        log: Logger,
        *,
        watched: Watched,
        every: timedelta,
        patience: timedelta = PATIENCE,
    ) -> None:
        """``every``: the time between rounds."""
        self._rounds = rounds
        self._sources = sources
        self._alerts = alerts
        self._log = log
        self._watched = watched
        self._patience = max(patience, 3 * every)

    def replace(self, watched: Watched) -> None:
        """Watch these."""
        self._watched = watched

    async def listening(self) -> None:
        """From now on sources can be heard; raises Unavailable."""
        await self._heard(None)

    async def check(self) -> None:
        """Tell of sources that stopped, and of those that came back."""
        watched = self._watched
        await self._heard(watched.shortest is not None)
        ended = {name: End("source removed", {}) for name in await self._sources.gone()}
        stopped: dict[str, Facts] = {}
        for silent in await self._sources.silent(watched.shortest):
            name = silent.reporter.name
            if silent.told is None:
                if _stopped(silent, watched):
                    stopped[name] = _facts(silent, watched)
            elif (end := _end(silent, watched)) is not None:
                ended[name] = end
        for name in await self._alerts.fire("stale", stopped):
            self._log.warning("a source stopped reporting", source=name)
        for name in await self._alerts.resolve("stale", ended):
            self._log.info("a source is not stale any more", source=name, reason=ended[name].reason)

    async def _heard(self, watching: bool | None) -> None:
        if outage := await self._rounds.heard(self._patience, watching):
            self._log.info("nobody listened", seconds=round(outage.total_seconds()))


def _stopped(silent: Silent, watched: Watched) -> bool:
    reporter = silent.reporter
    after = watched.after_of(reporter.name)
    return (
        after is not None
        and reporter.regular(after)
        and reporter.overdue(after, silent.silence, silent.heard)
        # What had stopped before anybody wanted to know is no news.
        and silent.silence - reporter.allowed(after) <= silent.watched
    )


def _facts(silent: Silent, watched: Watched) -> Facts:
    reporter = silent.reporter
    after = watched.after_of(reporter.name)
    assert after is not None
    return {
        "source": reporter.name,
        "lastEventAt": reporter.last,
        "usualPause": reporter.usual_pause,
        "allowed": reporter.allowed(after),
        "refusedAt": silent.refused,
    }


def _end(silent: Silent, watched: Watched) -> End | None:
    """Why its alert ends; None: it does not, whatever is not known."""
    assert silent.told is not None
    reporter, told = silent.reporter, silent.told
    if told.last is None or reporter.last > told.last:
        back: Facts = {"reportsSince": reporter.last}
        if told.last is not None:
            back = {**back, "silentFor": reporter.last - told.last}
        return End("reports again", back)
    after = watched.after_of(reporter.name)
    if after is None:
        return End("not watched", {})
    allowed = reporter.allowed(after)
    if allowed > told.allowed and not reporter.overdue(after, silent.silence, silent.heard):
        return End("longer silence allowed", {"allowed": allowed})
    return None
