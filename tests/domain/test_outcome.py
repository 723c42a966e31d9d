from __future__ import annotations

import json
from email.utils import formatdate
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quotabell.domain.endpoints import Service
from quotabell.domain.outcome import (
    BLOCKED_PAUSE,
    MAX_RETRY_AFTER,
    Fault,
    Outcome,
    classify,
    classify_own,
    parse_retry_after,
    unreachable,
)

NOW = 1_795_000_000.0
SERVICES = get_args(Service)

TABLE = [
    (200, "sent"),
    (201, "sent"),
    (202, "sent"),
    (204, "sent"),
    (301, "failed"),
    (302, "failed"),
    (303, "failed"),
    (307, "failed"),
    (308, "failed"),
    (400, "failed"),
    (401, "retry"),
    (402, "failed"),
    (403, "retry"),
    (404, "gone"),
    (405, "failed"),
    (408, "retry"),
    (410, "gone"),
    (413, "failed"),
    (415, "failed"),
    (425, "retry"),
    (429, "retry"),
    (500, "retry"),
    (502, "retry"),
    (503, "retry"),
    (504, "retry"),
    (599, "retry"),
]


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(("status", "kind"), TABLE)
def test_a_status_means_the_same_from_every_service(
    status: int, kind: str, service: Service
) -> None:
    outcome = classify(status, {}, b"", NOW, service)

    assert (outcome.kind, outcome.status) == (kind, status)
    assert outcome.resign is (status in (401, 403))
    assert outcome.short_form is (status == 413)
    assert outcome.counts is (status != 429)
    assert outcome.origin_pause is (status == 429)
    assert outcome.reason


def test_only_404_and_410_end_a_subscription() -> None:
    ending = {
        status
        for status in range(200, 600)
        for service in SERVICES
        if classify(status, {}, b"", NOW, service).kind == "gone"
    }

    assert ending == {404, 410}
    assert {unreachable(fault).kind for fault in Fault} == {"retry"}


def test_406_is_a_throttle_at_windows_only() -> None:
    throttled = classify(406, {"Retry-After": "9"}, b"", NOW, "windows")

    assert (throttled.kind, throttled.retry_after, throttled.origin_pause) == ("retry", 9, True)
    assert classify(406, {}, b"", NOW, "windows").kind == "retry"
    assert classify(406, {}, b"", NOW, "mozilla").kind == "failed"
    assert classify(406, {"Retry-After": "9"}, b"", NOW, "other").kind == "retry"


@pytest.mark.parametrize("header", ["X-WNS-ERROR-DESCRIPTION", "x-wns-status"])
@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_blocked_sender_does_not_end_subscriptions(status: int, header: str) -> None:
    blocked = classify(status, {header: "Domain Blocked"}, b"", NOW, "windows")

    assert blocked.kind == "retry"
    assert blocked.origin_pause
    assert not blocked.counts
    assert blocked.retry_after == BLOCKED_PAUSE


def test_a_busy_device_at_apple_does_not_pause_the_others() -> None:
    body = b'{"reason":"TooManyRequests"}'

    assert not classify(429, {}, body, NOW, "apple").origin_pause
    assert classify(429, {"Retry-After": "5"}, b"", NOW, "google").origin_pause


def test_a_pause_of_the_service_pauses_the_origin() -> None:
    assert classify(503, {"Retry-After": "5"}, b"", NOW).origin_pause
    assert not classify(503, {}, b"", NOW).origin_pause
    assert not classify(500, {"Retry-After": "5"}, b"", NOW).origin_pause
    assert classify(500, {"Retry-After": "5"}, b"", NOW).retry_after == 5


@pytest.mark.parametrize("status", [400, 403])
def test_a_subscription_made_with_another_key_is_told_apart(status: int) -> None:
    outcome = classify(status, {}, b'{"reason":"VapidPkHashMismatch"}', NOW, "apple")

    assert (outcome.kind, outcome.code, outcome.resign) == ("failed", "key_mismatch", False)


@pytest.mark.parametrize(
    ("headers", "body", "reason"),
    [
        ({}, b'{"reason":"BadTtl"}', "bad_request: BadTtl"),
        ({}, b'{"code":400,"errno":111,"message":"secret"}', "bad_request: errno 111"),
        (
            {"X-WNS-ERROR-DESCRIPTION": "Ttl value conflicts with X-WNS-Cache-Policy."},
            b"",
            "bad_request: Ttl value conflicts with X-WNS-Cache-Policy.",
        ),
        ({"X-WNS-ERROR-DESCRIPTION": "Bad token eyJ0eXAiOiJKV1Qi.x-_9"}, b"", "bad_request"),
        ({"X-WNS-ERROR-DESCRIPTION": "aaaaaaaaaaaaaaaaaaaaaa"}, b"", "bad_request"),
        ({"X-WNS-ERROR-DESCRIPTION": "a " * 500}, b"", "bad_request"),
        ({}, b'{"reason":"https://fcm.googleapis.com/wp/x"}', "bad_request"),
        ({}, b'{"reason":["BadTtl"],"errno":true}', "bad_request"),
        ({}, b'{"errno":1e999}', "bad_request"),
        ({}, b'{"errno":123456}', "bad_request"),
        ({}, b"[1]", "bad_request"),
        ({}, b"<html>/wp/secret</html>", "bad_request"),
        ({}, b'{"reason":"BadTt', "bad_request"),
        ({}, b"\xff\xfe\x00", "bad_request"),
        ({}, b"[" * 60000, "bad_request"),
        ({}, b"9" * 60000, "bad_request"),
    ],
)
def test_the_reason_repeats_only_words_that_are_known(
    headers: dict[str, str], body: bytes, reason: str
) -> None:
    assert classify(400, headers, body, NOW).reason == reason


def test_a_reason_is_bounded() -> None:
    assert len(Outcome("failed", reason="x" * 1000).reason) == 120
    assert Outcome("failed", reason="endpoint_refused: x: y").code == "endpoint_refused"


# Retry-After


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 120 ", 120),
        ("000000000000000007", 7),
        ("86400", MAX_RETRY_AFTER),
        ("86401", MAX_RETRY_AFTER),
        ("9" * 5000, MAX_RETRY_AFTER),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1s", None),
        ("1e3", None),
        ("٣", None),
        ("", None),
        ("soon", None),
        ("NaN", None),
        ("inf", None),
        ("3, 4", None),
        ("Sun, 06 Nov 1994 08:49:37 +0100", None),
        ("Sun, 06 Foo 1994 08:49:37 GMT", None),
        ("06 Nov 1994", None),
        ("2026-11-22T12:00:00Z", None),
    ],
)
def test_retry_after_in_seconds_and_garbage(value: str, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ],
)
def test_retry_after_takes_the_three_forms_of_a_date(value: str) -> None:
    assert parse_retry_after(value, 784111777 - 30.5) == 30.5
    assert parse_retry_after(value, 784111777 + 1) == 0
    assert parse_retry_after(value, 784111777 - 1e9) == MAX_RETRY_AFTER


def test_a_date_counts_by_the_clock_that_lets_us_wait_longer() -> None:
    headers = {"Retry-After": formatdate(NOW + 60, usegmt=True)}

    assert classify(429, headers, b"", NOW).retry_after == 60
    for skew, wait in ((-40, 100), (40, 60)):
        dated = {**headers, "Date": formatdate(NOW + skew, usegmt=True)}
        assert classify(429, dated, b"", NOW).retry_after == wait
    assert classify(429, {**headers, "Date": "never"}, b"", NOW).retry_after == 60


@settings(deadline=None)
@given(
    st.integers(200, 999),
    st.dictionaries(
        st.sampled_from(["Retry-After", "Date", "X-WNS-ERROR-DESCRIPTION", "X-WNS-STATUS"]),
        st.text(max_size=60) | st.integers().map(str),
    ),
    st.binary(max_size=80)
    | st.dictionaries(st.sampled_from(["reason", "errno"]), st.integers() | st.text()).map(
        lambda value: json.dumps(value).encode()
    ),
    st.sampled_from(SERVICES),
)
def test_no_answer_is_an_exception(
    status: int, headers: dict[str, str], body: bytes, service: Service
) -> None:
    outcome = classify(status, headers, body, NOW, service)

    assert outcome.retry_after is None or 0 <= outcome.retry_after <= MAX_RETRY_AFTER
    assert outcome.code.replace("_", "").isalpha()


@given(
    st.integers(100, 999),
    st.dictionaries(st.sampled_from(["Retry-After", "Date", "X"]), st.text(max_size=40)),
)
def test_no_answer_of_the_operators_own_receiver_ends_it_or_breaks_anything(
    status: int, headers: dict[str, str]
) -> None:
    outcome = classify_own(status, headers, NOW)

    assert outcome.kind in ("sent", "retry", "failed")
    assert (outcome.kind == "sent") == (200 <= status < 300)
    assert outcome.retry_after is None or 0 <= outcome.retry_after <= MAX_RETRY_AFTER
    assert not outcome.resign
    assert not outcome.short_form
