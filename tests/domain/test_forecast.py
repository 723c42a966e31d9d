"""When a forecast is made, held, and given up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotabell.domain.forecast import (
    Known,
    Pace,
    Past,
    Rule,
    Usage,
    Verdict,
    judge,
    runs_out_at,
)

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
RULE = Rule(10 * MINUTE, 2 * MINUTE, 0.05, timedelta(0))

FAST = Pace(1 / 60)  # a token a minute
SLOW = Pace(1e-6)
UNKNOWN = Pace(None)


def state(
    used: int = 80,
    limit: int | None = 100,
    start: datetime | None = NOW - 12 * HOUR,
    end: datetime | None = NOW + 12 * HOUR,
    pace: Pace = FAST,
    full: bool = False,
) -> Usage:
    return Usage(used, limit, start, end, pace, full)


def test_what_the_burn_reaches_soon_is_foretold() -> None:
    assert runs_out_at(RULE, state(), NOW) == NOW + 20 * MINUTE


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param(state(used=60), id="further away than a burn of minutes tells"),
        pytest.param(state(end=NOW + 19 * MINUTE), id="the period ends before"),
        pytest.param(state(end=NOW), id="the period is over"),
        pytest.param(state(limit=None), id="no limit"),
        pytest.param(state(used=100), id="used up"),
        pytest.param(state(full=True), id="a threshold of 100 rings"),
        pytest.param(state(pace=UNKNOWN), id="no burn known"),
        pytest.param(state(pace=Pace(0.0, 1.0, 1.0)), id="nothing is used at present"),
        pytest.param(state(end=None), id="neither end nor horizon"),
        pytest.param(state(start=NOW - 35 * MINUTE), id="too early in the period"),
    ],
)
def test_nothing_is_foretold(usage: Usage) -> None:
    assert runs_out_at(RULE, usage, NOW) is None


def test_a_share_of_the_period_must_have_passed() -> None:
    begun = state(start=NOW - 40 * MINUTE)
    assert runs_out_at(RULE, begun, NOW) is not None
    assert runs_out_at(RULE, begun, NOW - 5 * MINUTE) is None


def test_without_an_end_it_is_looked_as_far_as_the_horizon() -> None:
    snapshot = state(start=None, end=None)
    assert runs_out_at(Rule(10 * MINUTE, MINUTE, 0.5, 19 * MINUTE), snapshot, NOW) is None
    assert runs_out_at(Rule(10 * MINUTE, MINUTE, 0.5, 21 * MINUTE), snapshot, NOW) is not None


def test_a_longer_burn_window_is_believed_for_longer() -> None:
    hours = Rule(HOUR, MINUTE, 0.05, timedelta(0))
    assert runs_out_at(hours, state(used=0), NOW) == NOW + 100 * MINUTE


REMAINING = 20_000


def within(time: timedelta) -> float:
    """The pace at which the remaining tokens are used within a time."""
    return REMAINING / time.total_seconds()


@pytest.mark.parametrize(
    ("day", "week", "end", "foretold"),
    [
        (within(11 * HOUR), None, 2 * DAY, 11 * HOUR),
        (within(13 * HOUR), None, 2 * DAY, None),
        (None, within(80 * HOUR), 10 * DAY, 80 * HOUR),
        (None, within(90 * HOUR), 10 * DAY, None),
        (within(11 * HOUR), within(10 * HOUR), 2 * DAY, 10 * HOUR),
        # Almost at the end of the period anyway.
        (within(11 * HOUR), None, 13 * HOUR, None),
    ],
)
def test_days_and_weeks_tell_further_ahead(
    day: float | None, week: float | None, end: timedelta, foretold: timedelta | None
) -> None:
    # The present burn says it as well, but is not believed so far ahead.
    pace = Pace(within(40 * MINUTE), day, week)
    usage = state(0, REMAINING, NOW - 15 * DAY, NOW + end, pace)

    found = runs_out_at(RULE, usage, NOW)

    if foretold is None:
        assert found is None
    else:
        assert found is not None
        assert abs(found - NOW - foretold) < timedelta(seconds=1)


SAME = Past(60, 120)  # as much again was used in the rest of it


@pytest.mark.parametrize(
    ("past", "foretold"),
    [
        ((SAME,) * 3, True),
        ((SAME,) * 2, False),  # not enough to compare with
        ((SAME, SAME, Past(60, 100)), False),  # 40 of 45 at most
        ((SAME, SAME, Past(120, 180)), False),  # half as much today, so 30 will come
        ((SAME, SAME, Past(0, 120)), False),
        ((Past(60, 200), SAME, SAME), False),  # they differ
        ((Past(60, 115),) * 3, True),
    ],
)
def test_days_before_tell_what_is_to_come(past: tuple[Past, ...], foretold: bool) -> None:
    usage = state(used=60, pace=Pace(40 / 7200))._replace(past=past)

    found = runs_out_at(RULE, usage, NOW)

    assert (found is not None) == foretold
    if found is not None:
        # As if it went on evenly.
        assert NOW + 8 * HOUR <= found <= NOW + 9 * HOUR


def test_days_before_tell_nothing_while_little_is_used() -> None:
    usage = state(used=24, limit=100, pace=Pace(76 / 7200))
    assert runs_out_at(RULE, usage._replace(past=(Past(24, 200),) * 3), NOW) is None
    more = usage._replace(used=25, past=(Past(24, 200),) * 3)
    assert runs_out_at(RULE, more, NOW) is not None


def test_what_was_foretold_takes_less_to_stay_so() -> None:
    further = state(used=50)  # 50 minutes
    assert runs_out_at(RULE, further, NOW) is None
    assert runs_out_at(RULE, further, NOW, fired=True) == NOW + 50 * MINUTE
    assert runs_out_at(RULE, state(used=30), NOW, fired=True) is None


# --- what is done about it -----------------------------------------------------------------


def ago(minutes: float) -> datetime:
    return NOW - minutes * MINUTE


@pytest.mark.parametrize(
    ("usage", "known", "expected"),
    [
        (state(), Known(), "wait"),
        (state(), Known(since=ago(1.9)), "rest"),
        (state(), Known(since=ago(2)), "fire"),
        (state(pace=SLOW), Known(), "rest"),
        (state(pace=SLOW), Known(since=ago(1)), "drop"),
        (state(pace=UNKNOWN), Known(since=ago(1)), "drop"),
        (state(), Known(ago(9), None, 100), "rest"),
        (state(), Known(None, None, 100), "keep"),
        (state(), Known(ago(9), ago(3), 100), "keep"),
        (state(pace=SLOW), Known(ago(9), None, 100), "clear"),
        (state(pace=SLOW), Known(ago(19), ago(9.9), 100), "rest"),
        (state(pace=UNKNOWN), Known(ago(19), None, 100), "rest"),
        (state(pace=UNKNOWN), Known(ago(19), ago(11), 100), "keep"),
    ],
)
def test_it_is_held_before_it_fires_and_released_slowly(
    usage: Usage, known: Known, expected: str
) -> None:
    assert judge(RULE, usage, known, NOW).action == expected


@pytest.mark.parametrize(
    ("usage", "known", "reason", "silent"),
    [
        (state(pace=SLOW), Known(ago(19), ago(10), 100), "slower burn", False),
        (state(limit=10_000), Known(ago(9), None, 100), "limit raised", False),
        (state(limit=None), Known(ago(9), None, 100), "limit unknown", False),
        (state(end=NOW), Known(ago(9), None, 100), "period over", False),
        (state(end=None), Known(ago(9), None, 100), "no forecast", False),
        (state(used=100), Known(ago(9), None, 100), "exhausted", False),
        (state(used=100, full=True), Known(ago(9), None, 100), "exhausted", True),
        (state(used=99, full=True), Known(ago(9), None, 100), "exhausted", True),
    ],
)
def test_it_ends_for_a_reason(usage: Usage, known: Known, reason: str, silent: bool) -> None:
    assert judge(RULE, usage, known, NOW) == Verdict("end", None, reason, silent)  # type: ignore[arg-type]


def test_a_slightly_higher_limit_ends_nothing() -> None:
    assert judge(RULE, state(limit=101), Known(ago(9), None, 100), NOW).action == "rest"


def test_a_forecast_without_hold_fires_and_ends_at_once() -> None:
    rule = Rule(10 * MINUTE, timedelta(0), 0.05, timedelta(0))
    assert judge(rule, state(), Known(), NOW).action == "fire"
    assert judge(rule, state(pace=SLOW), Known(NOW, None, 100), NOW).action == "end"


_rates = st.none() | st.just(0.0) | st.floats(1e-300, 1e18)
_counts = st.integers(0, 2**63 - 1)
_moments = st.none() | st.timedeltas(-400 * DAY, 400 * DAY).map(lambda d: NOW + d)


@given(
    used=st.integers(0, 2**63 - 1),
    limit=st.none() | st.integers(1, 2**63 - 1),
    start=_moments,
    end=_moments,
    rates=st.tuples(_rates, _rates, _rates),
    full=st.booleans(),
    past=st.lists(st.builds(Past, _counts, _counts), max_size=3).map(tuple),
    known=st.builds(Known, _moments, _moments, st.none() | st.integers(1, 2**63 - 1)),
)
def test_whatever_comes_there_is_a_verdict_and_it_lies_within_the_period(
    used: int,
    limit: int | None,
    start: datetime | None,
    end: datetime | None,
    rates: tuple[float | None, float | None, float | None],
    full: bool,
    past: tuple[Past, ...],
    known: Known,
) -> None:
    usage = Usage(used, limit, start, end, Pace(*rates), full, past)

    verdict = judge(RULE, usage, known, NOW)

    if verdict.runs_out is not None:
        assert limit is not None
        assert used < limit
        assert end is not None
        assert NOW <= verdict.runs_out <= end
    if verdict.action in ("fire", "wait"):
        assert verdict.runs_out is not None
    assert (verdict.action == "end") == (verdict.reason is not None)
