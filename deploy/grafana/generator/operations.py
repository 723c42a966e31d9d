"""For whoever runs the daemons: reports in, alerts out, evaluation, the database behind."""

from __future__ import annotations

from deploy.grafana.generator.parts import (
    ANY_IS_BAD,
    GOOD,
    Column,
    Json,
    Query,
    Row,
    choice,
    dashboard,
    lines,
    signed,
    stat,
    table,
)

OF = 'instance=~"$instance"'
LATE = (("green", None), ("orange", 5.0), ("red", 30.0))
SLOW = (("green", None), ("orange", 0.1), ("red", 0.5))


def rate(by: str, counter: str, more: str = "") -> str:
    """Summed over replicas: each counts its own."""
    return f"sum by ({by}) (rate({counter}{{{OF}{more}}}[$__rate_interval]))"


def quantile(q: float, histogram: str) -> str:
    """Of all replicas together."""
    return f"histogram_quantile({q}, {rate('le', histogram + '_bucket')})"


def shared(metric: str, by: str = "") -> str:
    """What every replica tells of the same thing."""
    return f"max by ({by}) ({metric}{{{OF}}})" if by else f"max({metric}{{{OF}}})"


def ended(outcomes: str) -> str:
    """Deliveries that ended so, lately."""
    counted = f'quotabell_deliveries_total{{{OF},outcome=~"{outcomes}"}}'
    return f"sum by (channel) (increase({counted}[15m]))"


def page() -> Json:
    """The whole page."""
    return dashboard(
        "quotabell-operations",
        "Quotabell: operations",
        "Whether the daemons do their work: reports in, alerts out, and the database behind.",
        [choice("instance", "Instance", "label_values(quotabell_build_info, instance)")],
        [
            _headline(),
            _reports(),
            _commits(),
            _deliveries(),
            _receivers(),
            _evaluation(),
            _database(),
            _tables(),
            _sources(),
        ],
    )


def _headline() -> Row:
    yes = {"1": "yes", "0": "no"}
    return Row(
        4,
        [
            stat(
                "Replicas",
                "Daemons that are scraped now.",
                f"count(quotabell_build_info{{{OF}}}) or vector(0)",
                steps=GOOD,
            ),
            stat(
                "Leaders",
                "Replicas that hold the lease of evaluation: one, for a moment none.",
                f"sum(quotabell_leader{{{OF}}})",
                steps=(*GOOD, ("orange", 2)),
            ),
            stat(
                "Database",
                "Whether it answers on every replica.",
                f"min(quotabell_database_up{{{OF}}})",
                steps=GOOD,
                words={"1": "up", "0": "away"},
            ),
            stat(
                "Configuration in sync",
                "Whether all replicas have the quotas, thresholds and channels in force.",
                f"min(quotabell_config_in_sync{{{OF}}})",
                steps=GOOD,
                words=yes,
            ),
            stat(
                "Last reload worked",
                "Whether the last reload of the configuration succeeded on every replica.",
                f"min(quotabell_config_last_reload_successful{{{OF}}})",
                steps=GOOD,
                words=yes,
            ),
            stat(
                "Oldest delivery due",
                "For how long a delivery has been due that nobody has begun.",
                shared("quotabell_delivery_oldest_due_seconds"),
                unit="s",
                steps=LATE,
            ),
            stat(
                "Deliveries failed",
                "In the time shown: failed for good or expired.",
                f'sum(increase(quotabell_deliveries_total{{{OF},outcome=~"failed|expired"}}'
                "[$__range]))",
                steps=ANY_IS_BAD,
            ),
            stat(
                "Reports refused",
                "In the time shown: rejected for what they say, or told to come again.",
                f'sum(increase(quotabell_ingest_events_total{{{OF},outcome=~"rejected|'
                f'unavailable"}}[$__range])) or 0 * count(quotabell_build_info{{{OF}}})',
                steps=(("green", None), ("orange", 1.0)),
            ),
        ],
    )


def _reports() -> Row:
    ingest = "quotabell_ingest_events_total"
    return Row(
        8,
        [
            lines(
                "Reports by outcome",
                "Usage reports a second. Unavailable: answered with 503, to be repeated.",
                Query(rate("outcome", ingest), "{{outcome}}"),
                unit="cps",
                stacked=True,
            ),
            lines(
                "Reports by source",
                "Who sends them, by the name of the token.",
                Query(rate("source", ingest), "{{source}}"),
                unit="cps",
                stacked=True,
            ),
            lines(
                "Reports waiting for their commit",
                "By replica. At ingest.max_pending further ones are answered with 503.",
                Query(f"quotabell_ingest_queue_events{{{OF}}}", "{{instance}}"),
            ),
        ],
        title="Reports in",
    )


def _commits() -> Row:
    return Row(
        8,
        [
            lines(
                "Commits",
                "Time a batch of reports takes to commit; each report is answered after it.",
                Query(quantile(0.5, "quotabell_ingest_commit_seconds"), "median"),
                Query(quantile(0.99, "quotabell_ingest_commit_seconds"), "99 %"),
                unit="s",
                steps=SLOW,
            ),
            lines(
                "Reports in a batch",
                "Batches grow with the load: what arrives during one commit is the next batch.",
                Query(quantile(0.5, "quotabell_ingest_batch_events"), "median"),
                Query(quantile(0.99, "quotabell_ingest_batch_events"), "99 %"),
            ),
        ],
    )


def _deliveries() -> Row:
    return Row(
        8,
        [
            lines(
                "Deliveries by outcome",
                "Attempts a second by channel. Retry: tried again later; gone: the browser has "
                "unsubscribed; superseded: a newer message has overtaken it.",
                Query(
                    f"{rate('channel, outcome', 'quotabell_deliveries_total')} > 0 or vector(0)",
                    "{{channel}} {{outcome}}",
                ),
                unit="cps",
                stacked=True,
            ),
            lines(
                "From the crossing to its receipt",
                "Time from a threshold's crossing until a receiver has taken the message.",
                Query(quantile(0.5, "quotabell_delivery_seconds"), "median"),
                Query(quantile(0.99, "quotabell_delivery_seconds"), "99 %"),
                unit="s",
                steps=LATE,
            ),
            lines(
                "Deliveries waiting",
                "Not finished ones, those that wait for their next try included.",
                Query(shared("quotabell_deliveries_pending"), "waiting"),
            ),
        ],
        title="Alerts out",
    )


def _receivers() -> Row:
    return Row(
        8,
        [
            lines(
                "Share of deliveries that failed",
                "Of what ended in the last 15 minutes, by channel: failed for good or expired.",
                Query(
                    f"{ended('failed|expired')} / ({ended('sent|failed|expired')} > 0)",
                    "{{channel}}",
                ),
                unit="percentunit",
                steps=(("green", None), ("red", 0.01)),
            ),
            lines(
                "Channels over which nothing arrives",
                "1 while a channel has failed for 15 minutes.",
                Query(
                    f"{shared('quotabell_channel_failing', 'channel')} or vector(0)", "{{channel}}"
                ),
                maximum=1,
            ),
            lines(
                "Waiting longest",
                "For how long the oldest delivery has been due.",
                Query(shared("quotabell_delivery_oldest_due_seconds"), "oldest"),
                unit="s",
                steps=LATE,
            ),
            lines(
                "Sends of unknown outcome",
                "Cut off by a crash: these may have arrived twice.",
                Query(
                    f"sum(increase(quotabell_delivery_unknown_total{{{OF}}}[$__rate_interval]))",
                    "unknown",
                ),
            ),
        ],
    )


def _evaluation() -> Row:
    return Row(
        8,
        [
            lines(
                "Since the last round",
                "Time since each replica finished a round of evaluation.",
                Query(f"quotabell_evaluate_lag_seconds{{{OF}}}", "{{instance}}"),
                unit="s",
                steps=(("green", None), ("orange", 30.0), ("red", 60.0)),
            ),
            lines(
                "Leader",
                "Which replica evaluates.",
                Query(f"quotabell_leader{{{OF}}}", "{{instance}}"),
                maximum=1,
            ),
            lines(
                "Changes to be worked off",
                "Scopes of thresholds to be compared anew, quotas to be counted anew.",
                Query(shared("quotabell_rearm_pending"), "thresholds"),
                Query(shared("quotabell_recount_pending"), "quotas"),
            ),
            signed(
                lines(
                    "Clock",
                    "How far each replica's clock is ahead of the database's.",
                    Query(f"quotabell_clock_offset_seconds{{{OF}}}", "{{instance}}"),
                    unit="s",
                )
            ),
        ],
        title="Evaluation",
    )


def _database() -> Row:
    return Row(
        8,
        [
            lines(
                "Connections in use",
                "By replica and pool, with what the pools may have. Ingest has its own.",
                Query(
                    f'quotabell_database_pool_connections{{{OF},state="used"}}',
                    "{{instance}} {{pool}}",
                ),
                Query(
                    shared("quotabell_database_pool_limit_connections", "pool"),
                    "limit of {{pool}}",
                ),
            ),
            lines(
                "Oldest transaction",
                "Of anybody in this database. While it is open no dead row can be removed.",
                Query(shared("quotabell_database_oldest_transaction_seconds"), "oldest"),
                unit="s",
                steps=(("green", None), ("orange", 300.0), ("red", 900.0)),
            ),
            lines(
                "Size of the tables",
                "With their indexes and partitions.",
                Query(shared("quotabell_database_table_bytes", "table"), "{{table}}"),
                unit="bytes",
                stacked=True,
            ),
        ],
        title="Database",
    )


def _tables() -> Row:
    name = "quotabell_database_table"
    dead, live = (shared(f"{name}_{kind}_rows", "table") for kind in ("dead", "live"))
    return Row(
        10,
        [
            table(
                "Tables",
                "Rows as the statistics estimate them. Partitions are made three days ahead.",
                {"table": "Table"},
                [
                    Column("Bytes", shared(f"{name}_bytes", "table"), "bytes"),
                    Column("Rows", live),
                    Column("Dead rows", dead),
                    Column(
                        "Dead share",
                        f"{dead} / ({dead} + {live} > 0)",
                        "percentunit",
                        (("green", None), ("yellow", 0.2), ("red", 0.4)),
                    ),
                    Column("Partitions", shared(f"{name}_partitions", "table")),
                    Column(
                        "Partitions until",
                        f"1000 * {shared(f'{name}_partitions_end_timestamp_seconds', 'table')}",
                        "dateTimeFromNow",
                    ),
                ],
                sort="Bytes",
            )
        ],
    )


def _sources() -> Row:
    heard = "max by (source) (quotabell_source_last_event_timestamp_seconds)"
    return Row(
        8,
        [
            table(
                "Sources",
                "Who reports usage (token / receiver / service), and when it was last heard.",
                {"source": "Source"},
                [
                    Column("Last heard", f"1000 * {heard}", "dateTimeFromNow"),
                    Column("Silent for", f"time() - {heard}", "s"),
                ],
                sort="Silent for",
            )
        ],
        title="Sources",
    )
