"""Those who watch what is no quota, put together: sources, channels, and the daemon itself."""

from __future__ import annotations

from quotabell.channels.ping import Pinger
from quotabell.config import Config
from quotabell.log import Logger
from quotabell.metrics import Metrics
from quotabell.service.health import ChannelWatch
from quotabell.service.heartbeat import Heartbeat
from quotabell.service.stale import SourceWatch, watched_of
from quotabell.store.database import Database
from quotabell.store.health import HealthStore
from quotabell.store.rounds import RoundStore
from quotabell.store.staleness import StalenessStore
from quotabell.store.subjects import SubjectStore


class Watching:
    """``pinger`` is to be opened, and ``heartbeat`` to be run, by whoever makes this."""

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
        self.pinger = Pinger()
        url = config.alerts.heartbeat_url.get_secret_value()
        self.heartbeat = Heartbeat(url, self.pinger, metrics, log)
