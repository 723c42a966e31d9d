"""The configuration as others see it: without secrets, and as a fingerprint."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from quotabell.config.model import Config


def redacted(config: Config) -> dict[str, Any]:
    """Every key as JSON values, secrets as ``<secret>``, database URLs without password."""
    return config.model_dump(mode="json")


def fingerprint(config: Config) -> str:
    """SHA-256 (hex) over the parts that are mirrored to the database for SQL to read.

    Equal for files that mean the same: order, spelling and repeats do not count.
    """
    mirrored = {
        "thresholds": config.thresholds.model_dump(mode="json"),
        "quotas": {quota.name: quota.model_dump(mode="json") for quota in config.quotas},
        "channels": {
            channel.name: [channel.type, channel.origin, channel.when.model_dump(mode="json")]
            for channel in config.channels
        },
    }
    text = json.dumps(mirrored, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
