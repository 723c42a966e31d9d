"""What is shown of a configuration, and when two of them count as the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from quotabell.config import Config, Thresholds, fingerprint, load, redacted
from quotabell.config.dsn import without_password


def test_what_is_shown_can_be_loaded_again(tmp_path: Path) -> None:
    first = tmp_path / "first.yml"
    first.write_text(
        "ingest: {max_body: 1536KiB, future_skew: 1m30s}\nthresholds: {default: [99.5, 50]}\n"
        "push: {trusted_origins: ['http://[::1]:80']}\nlisten: '[::1]:0'\ndata_dir: x\n"
    )
    config = load(first, {})
    shown = redacted(config)
    assert shown["auth"].pop("jwt") is None  # nothing to write down
    assert shown.pop("tls") is None
    for section in ("database", "alerts"):
        shown[section] = {k: v for k, v in shown[section].items() if not k.endswith("_file")}
    second = tmp_path / "second.yml"
    second.write_text(yaml.safe_dump(shown))

    assert load(second, {}) == config


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgres://u:CANARY@h/d", "postgres://u@h/d"),
        ("postgresql://u@h1:1,h2/d", "postgresql://u@h1:1,h2/d"),
        ("postgres://:CANARY@h", "postgres://h/"),
        ("postgres:///d?host=/run/pg&password=CANARY", "postgres:///d?host=/run/pg"),
        ("postgres://h/d?sslpassword=CANARY&sslmode=require", "postgres://h/d?sslmode=require"),
        ("CANARY", "<secret>"),
        ("", ""),
    ],
)
def test_a_database_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


def test_the_fingerprint_is_stable() -> None:
    """It is stored in the database, so a change of its value is a change of its meaning."""
    assert fingerprint(Config()) == FINGERPRINT_OF_DEFAULTS


FINGERPRINT_OF_DEFAULTS = "1dd96992a0fa8bd157573f34dc6a44da73d46d63153f327ced36a91cc384f810"


@pytest.mark.parametrize(
    ("same", "values"),
    [
        (True, {"thresholds": {"default": [100, 90.0, 75, 90]}}),
        (True, {"log": {"level": "debug"}}),
        (False, {"thresholds": {"default": [75, 90]}}),
        (False, {"thresholds": {"hysteresis": 4}}),
        (False, {"quotas": [{"name": "q", "limit": 1, "window": "day"}]}),
        (False, {"channels": [{"name": "a", "type": "alertmanager", "url": "http://one"}]}),
    ],
)
def test_the_fingerprint_follows_the_mirrored_parts_only(
    same: bool, values: dict[str, Any]
) -> None:
    assert (fingerprint(Config.model_validate(values)) == FINGERPRINT_OF_DEFAULTS) is same


def test_thresholds_are_ascending_without_repeats() -> None:
    assert Thresholds(default=(100, 50, 50.0)).default == (50, 100)
