"""When a source that reported regularly counts as stopped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from quotabell.domain.staleness import Reporter, Watched

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
LONG = timedelta(days=30)


def steady(every: timedelta, *, span: timedelta = LONG) -> Reporter:
    """A source that has reported at this pace for so long, until noon."""
    return Reporter("s", NOON - span, NOON, every, NOON - span / 2, every)


def test_a_source_seen_once_or_twice_is_not_regular() -> None:
    once = Reporter("s", NOON, NOON)
    twice = Reporter("s", NOON - LONG, NOON, LONG, NOON, None)

    assert not once.regular(HOUR)
    assert not twice.regular(HOUR)
    assert not twice.regular(SECOND)


def test_a_burst_is_not_regular() -> None:
    assert not steady(SECOND, span=5 * MINUTE).regular(HOUR)


def test_a_source_is_regular_once_it_reported_for_three_times_what_it_may_be_silent() -> None:
    assert not steady(SECOND, span=3 * HOUR - SECOND).regular(HOUR)
    assert steady(SECOND, span=3 * HOUR).regular(HOUR)
    assert not steady(6 * HOUR, span=24 * HOUR).regular(HOUR)
    assert steady(6 * HOUR, span=27 * HOUR).regular(HOUR)


def test_after_a_pause_that_is_not_usual_it_must_be_regular_anew() -> None:
    """Somebody tries something now and then: two sessions, days apart."""
    back = NOON - 2 * HOUR

    source = Reporter("s", NOON - LONG, NOON, 2 * 24 * HOUR, back, MINUTE)

    assert not source.regular(HOUR)
    assert source.regular(HOUR / 2)


@pytest.mark.parametrize(
    ("every", "after", "allowed"),
    [
        (SECOND, HOUR, HOUR),
        (30 * MINUTE, HOUR, HOUR),
        (6 * HOUR, HOUR, 9 * HOUR),
        (24 * HOUR, 2 * MINUTE, 36 * HOUR),
    ],
)
def test_nobody_is_overdue_before_its_own_rhythm_says_so(
    every: timedelta, after: timedelta, allowed: timedelta
) -> None:
    source = steady(every)

    assert source.allowed(after) == allowed
    assert not source.overdue(after, allowed, LONG)
    assert source.overdue(after, allowed + SECOND, LONG)


def test_one_long_outage_of_a_source_does_not_hide_the_next() -> None:
    assert Reporter("s", NOON - LONG, NOON, 72 * HOUR, NOON, SECOND).allowed(HOUR) == HOUR


@pytest.mark.parametrize(
    ("every", "again"), [(SECOND, 10 * MINUTE), (20 * MINUTE, 30 * MINUTE), (6 * HOUR, 9 * HOUR)]
)
def test_after_an_outage_of_ours_a_source_has_time_to_come_back(
    every: timedelta, again: timedelta
) -> None:
    source = steady(every)

    assert not source.overdue(HOUR, LONG, again)
    assert source.overdue(HOUR, LONG, again + SECOND)


def test_the_first_override_that_matches_counts() -> None:
    watched = Watched(
        HOUR, (("apps/*/nightly", 48 * HOUR), ("apps/*", timedelta(0)), ("x", SECOND))
    )

    assert watched.after_of("apps/events/nightly") == 48 * HOUR
    assert watched.after_of("apps/update") is None
    assert watched.after_of("local/update") == HOUR
    assert watched.after_of("other") is None
    assert watched.shortest == SECOND


def test_without_a_duration_nothing_is_watched() -> None:
    assert Watched().after_of("apps/update") is None
    assert Watched().shortest is None
    assert Watched(overrides=(("apps/*", HOUR),)).after_of("apps/update") == HOUR
    assert Watched(overrides=(("apps/*", HOUR),)).after_of("local/update") is None
