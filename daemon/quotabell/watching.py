"""Those who watch what is no quota, put together: sources and channels."""

from __future__ import annotations

from quotabell.config import Config
from quotabell.log import Logger
from quotabell.metrics import Metrics
from quotabell.service.health import ChannelWatch
from quotabell.service.stale import SourceWatch, watched_of
from quotabell.store.database import Database
from quotabell.store.health import HealthStore
from quotabell.store.rounds import RoundStore
from quotabell.store.staleness import StalenessStore
from quotabell.store.subjects import SubjectStore


class Watching:
    """Their checks are steps of the rounds of evaluation."""

    def __init__(self, config: Config, database: Database, metrics: Metrics, log: Logger) -> None:
        subjects = SubjectStore(database)
        self.sources = SourceWatch(
            RoundStore(database),
            StalenessStore(database),
            subjects,
            log,
            watched=watched_of(config),
            every=config.alerts.evaluate_every,
        )
        self.channels = ChannelWatch(HealthStore(database), subjects, metrics, log)
