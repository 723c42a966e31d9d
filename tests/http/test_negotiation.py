"""Which form of ``/metrics`` a header asks for."""

from __future__ import annotations

import pytest

from quotabell.http.negotiation import takes_gzip, wants_openmetrics

OPENMETRICS = "application/openmetrics-text"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;"
    "q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;"
    "escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
        (OPENMETRICS, True),
        (f'{OPENMETRICS}; version="1.0.0"; charset=utf-8', True),
        (f"{OPENMETRICS};q=0.3, text/plain;q=0.5", False),
        (f"{OPENMETRICS};q=0.5, text/plain;version=1.0.0;q=0.9", True),
        (f"{OPENMETRICS};q=0", False),
        (f"{OPENMETRICS};q=all", False),
        (f"{OPENMETRICS};version=0.0.1", False),
        (f"{OPENMETRICS};version=2.0.0", False),
        ("text/plain", False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,*/*;q=0.8", False),
        ("", False),
        (",;,=;q", False),
    ],
)
def test_openmetrics_is_for_who_prefers_it(accept: str, wanted: bool) -> None:
    assert wants_openmetrics(accept) is wanted


@pytest.mark.parametrize(
    ("accept", "taken"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("deflate, GZIP;q=0.5", True),
        ("*", True),
        ("*;q=0.1, gzip;q=0", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("gzip;q=1.000", True),
        ("gzip;q=2", False),
        ("identity", False),
        ("", False),
        (";;q=,,", False),
    ],
)
def test_gzip_is_for_who_takes_it(accept: str, taken: bool) -> None:
    assert takes_gzip(accept) is taken
