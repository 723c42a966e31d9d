"""Durations and sizes, there and back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotabell.config.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("5s", timedelta(seconds=5)),
        ("2m", timedelta(minutes=2)),
        ("35d", timedelta(days=35)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("2w1d", timedelta(days=15)),
        ("250ms", timedelta(milliseconds=250)),
        ("1m250ms", timedelta(minutes=1, milliseconds=250)),
        ("1.5h", timedelta(minutes=90)),
        ("90", timedelta(seconds=90)),
        (90, timedelta(seconds=90)),
        (0.05, timedelta(milliseconds=50)),
        (0, timedelta(0)),
    ],
)
def test_a_duration_is_read(written: object, meant: timedelta) -> None:
    assert parse_duration(written) == meant


@pytest.mark.parametrize(
    "written",
    [
        *("", "s", "5 s", "5S", "30m1h", "5m5m", "-5s", "1e3s", "5s ", "5mins", "5sec", "٥s"),
        *("1msm", "999999999w", -1, True, None, [], float("nan"), float("inf"), 10**400),
    ],
    ids=lambda written: repr(written)[:20],
)
def test_anything_else_is_no_duration(written: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(written)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=100_000)))
def test_a_shown_duration_is_read_back(value: timedelta) -> None:
    assert parse_duration(format_duration(value)) == value


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("32MiB", 32 * 1024**2),
        ("512KiB", 512 * 1024),
        ("1GiB", 1024**3),
        ("10MB", 10**7),
        ("1 GB", 10**9),
        ("5kB", 5000),
        ("7B", 7),
        ("8", 8),
        (9, 9),
    ],
)
def test_a_size_is_read(written: object, meant: int) -> None:
    assert parse_size(written) == meant


@pytest.mark.parametrize(
    "written", ["", "MiB", "1.5GiB", "-2", -1, 1.5, True, None, "1 TB", "1mib"]
)
def test_anything_else_is_no_size(written: object) -> None:
    with pytest.raises(ValueError, match="no size"):
        parse_size(written)


@given(st.integers(min_value=0, max_value=10**15))
def test_a_shown_size_is_read_back(value: int) -> None:
    assert parse_size(format_size(value)) == value
