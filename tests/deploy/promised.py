"""The metrics that the contract names, with their types and labels (its section 8)."""

from __future__ import annotations

STATE = ("quota", "provider", "model", "user")
SENDER = ("provider", "model", "user")

USAGE: dict[str, tuple[str, tuple[str, ...]]] = {
    "quotabell_tokens_total": ("counter", (*SENDER, "kind")),
    "quotabell_requests_total": ("counter", SENDER),
    "quotabell_cost_usd_total": ("counter", SENDER),
    "quotabell_quota_used_tokens": ("gauge", STATE),
    "quotabell_quota_limit_tokens": ("gauge", STATE),
    "quotabell_quota_used_ratio": ("gauge", STATE),
    "quotabell_quota_burn_tokens_per_second": ("gauge", STATE),
    "quotabell_quota_reset_timestamp_seconds": ("gauge", STATE),
    "quotabell_quota_exhaustion_timestamp_seconds": ("gauge", STATE),
    "quotabell_quota_subjects": ("gauge", ("quota", "band")),
    "quotabell_alert_level_percent": ("gauge", (*STATE, "kind")),
    "quotabell_source_last_event_timestamp_seconds": ("gauge", ("source",)),
}
"""Of the replica that evaluates, or of any that is asked for usage."""

HEALTH: dict[str, tuple[str, tuple[str, ...]]] = {
    "quotabell_ingest_events_total": ("counter", ("source", "outcome")),
    "quotabell_ingest_commit_seconds": ("histogram", ()),
    "quotabell_ingest_batch_events": ("histogram", ()),
    "quotabell_ingest_queue_events": ("gauge", ()),
    "quotabell_deliveries_total": ("counter", ("channel", "outcome")),
    "quotabell_delivery_seconds": ("histogram", ()),
    "quotabell_deliveries_pending": ("gauge", ()),
    "quotabell_delivery_oldest_due_seconds": ("gauge", ()),
    "quotabell_delivery_unknown_total": ("counter", ()),
    "quotabell_listener_up": ("gauge", ()),
    "quotabell_leader": ("gauge", ()),
    "quotabell_evaluate_lag_seconds": ("gauge", ()),
    "quotabell_rearm_pending": ("gauge", ()),
    "quotabell_clock_offset_seconds": ("gauge", ()),
    "quotabell_database_up": ("gauge", ()),
    "quotabell_database_table_bytes": ("gauge", ("table",)),
    "quotabell_database_oldest_transaction_seconds": ("gauge", ()),
    "quotabell_config_in_sync": ("gauge", ()),
    "quotabell_config_last_reload_successful": ("gauge", ()),
    "quotabell_build_info": ("gauge", ("version",)),
}
"""Of every replica."""
