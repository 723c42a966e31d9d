"""The daemon's own health as Prometheus families, one object a daemon.

Names follow the Prometheus conventions: base units, ``_total`` for counters. The usage
families are not here: they are rendered from the database's state.
"""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from quotabell import __version__

OUTCOMES = ("accepted", "older", "rejected", "unavailable")
CHANNELS = ("webpush", "webhook", "alertmanager", "apprise")
DELIVERY_OUTCOMES = ("sent", "retry", "gone", "failed", "expired", "superseded")
_DELIVERY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
EVENT_OUTCOMES = ("accepted", "duplicate", "corrected", "rejected", "unavailable")
_COMMIT_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_BATCH_BUCKETS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2000, 5000, 10000)


class Metrics:
    """Every health family, with its label values created ahead so that series start at 0."""

    def __init__(self) -> None:
        # Of a text scrape, the creation times of counters are a third without any use.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        self.ingest_events = Counter(
            "quotabell_ingest_events_total",
            "Usage reports by who sent them and what became of them.",
            ["source", "outcome"],
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "quotabell_ingest_commit_seconds",
            "Time one batch of reports took to commit.",
            buckets=_COMMIT_BUCKETS,
            registry=registry,
        )
        self.batch_events = Histogram(
            "quotabell_ingest_batch_events",
            "Reports in one batch.",
            buckets=_BATCH_BUCKETS,
            registry=registry,
        )
        self.queue_events = Gauge(
            "quotabell_ingest_queue_events",
            "Reports waiting for their commit.",
            registry=registry,
        )
        self.database_up = Gauge(
            "quotabell_database_up",
            "Whether the last probe of the database succeeded.",
            registry=registry,
        )
        self.clock_offset = Gauge(
            "quotabell_clock_offset_seconds",
            "How far this machine's clock is ahead of the database's.",
            registry=registry,
        )
        self.leader = Gauge(
            "quotabell_leader",
            "Whether this replica evaluates alerts and exposes usage.",
            registry=registry,
        )
        self.evaluate_lag = Gauge(
            "quotabell_evaluate_lag_seconds",
            "Time since this replica last finished a round of evaluation.",
            registry=registry,
        )
        self.rearm_pending = Gauge(
            "quotabell_rearm_pending",
            "Scopes of thresholds whose quota states are yet to be compared anew.",
            registry=registry,
        )
        self.deliveries = Counter(
            "quotabell_deliveries_total",
            "Attempts of deliveries by their outcome, and deliveries that ended without one.",
            ["channel", "outcome"],
            registry=registry,
        )
        for channel in CHANNELS:
            for outcome in DELIVERY_OUTCOMES:
                self.deliveries.labels(channel, outcome)
        self.alert_posts = Counter(
            "quotabell_alertmanager_posts_total",
            "Posts of all alerts to Alertmanager by channel and outcome.",
            ["channel", "outcome"],
            registry=registry,
        )
        self.delivery_seconds = Histogram(
            "quotabell_delivery_seconds",
            "Time from the crossing of a threshold to its acceptance by a receiver.",
            buckets=_DELIVERY_BUCKETS,
            registry=registry,
        )
        self.deliveries_pending = Gauge(
            "quotabell_deliveries_pending",
            "Deliveries that are not finished.",
            registry=registry,
        )
        self.oldest_due = Gauge(
            "quotabell_delivery_oldest_due_seconds",
            "For how long the oldest delivery, or message without deliveries yet, has been due.",
            registry=registry,
        )
        self.delivery_unknown = Counter(
            "quotabell_delivery_unknown_total",
            "Attempts whose outcome a crash hid, as this replica found: possible duplicates.",
            registry=registry,
        )
        self.channel_failing = Gauge(
            "quotabell_channel_failing",
            "Whether nothing has arrived over a channel for 15 minutes, so that its alert fires.",
            ["channel"],
            registry=registry,
        )
        self.heartbeat_pings = Counter(
            "quotabell_heartbeat_pings_total",
            "Pings of the dead man's switch by outcome.",
            ["outcome"],
            registry=registry,
        )
        self.listener_up = Gauge(
            "quotabell_listener_up",
            "Whether hints of the database arrive; without them it is polled.",
            registry=registry,
        )
        self.recount_pending = Gauge(
            "quotabell_recount_pending",
            "Quotas whose states do not follow a change of the configuration yet.",
            registry=registry,
        )
        self.config_in_sync = Gauge(
            "quotabell_config_in_sync",
            "Whether this replica's configuration is the one mirrored to the database.",
            registry=registry,
        )
        self.config_reload_successful = Gauge(
            "quotabell_config_last_reload_successful",
            "Whether the last reload of the configuration succeeded.",
            registry=registry,
        )
        self.tls_expiry = Gauge(
            "quotabell_tls_certificate_expiry_timestamp_seconds",
            "When the certificate that new connections get expires; 0 without TLS.",
            registry=registry,
        )
        self.tls_reload_successful = Gauge(
            "quotabell_tls_last_reload_successful",
            "Whether the files of the certificate could be used when they were last read.",
            registry=registry,
        )
        self.tls_reload_successful.set(1)
        Gauge(
            "quotabell_build_info",
            "A constant 1 with the version of this daemon.",
            ["version"],
            registry=registry,
        ).labels(__version__).set(1)
        self.config_reload_successful.set(1)

    def ingest_outcomes(self, source: str) -> dict[str, Counter]:
        """The counters of one source, by outcome."""
        return {outcome: self.ingest_events.labels(source, outcome) for outcome in OUTCOMES}

    def event_outcomes(self, source: str) -> dict[str, Counter]:
        """The counters of one source of usage events, by outcome."""
        return {outcome: self.ingest_events.labels(source, outcome) for outcome in EVENT_OUTCOMES}

    def render(self, openmetrics: bool = False) -> str:
        """The families in the text format 0.0.4, or in OpenMetrics 1.0 without its last line."""
        if openmetrics:
            text: bytes = generate_openmetrics(self.registry)  # type: ignore[no-untyped-call]
            return text.decode().removesuffix("# EOF\n")
        return generate_latest(self.registry).decode()
