"""Batches of snapshots: reduced for the database, answered as if each came alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from quotabell.domain.usage import (
    Snapshot,
    StoredState,
    plan,
    receipts,
    shown_percentage,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def snapshot(used: int, *, model: str = "m", limit: int | None = 100, ago: float | None = None):
    at = None if ago is None else NOW - timedelta(seconds=ago)
    return Snapshot("p", model, used, limit, "u", at)


def stored(item: Snapshot, before: datetime | None) -> StoredState:
    at = min(item.timestamp or NOW, NOW)
    return StoredState(
        "id", *item.key, item.tokens_used, item.token_limit, item.percentage, at, None, before, NOW
    )


def test_one_row_a_key_is_written_and_it_is_the_newest():
    first, second = snapshot(10, ago=5), snapshot(20, ago=1)
    late = snapshot(30, ago=9)

    assert plan([first, second, late], NOW).finals == [second]


def test_of_equally_old_reports_the_last_to_arrive_wins():
    assert plan([snapshot(10, ago=5), snapshot(20, ago=5)], NOW).finals[0].tokens_used == 20
    assert plan([snapshot(10), snapshot(20)], NOW).finals[0].tokens_used == 20


def test_a_time_ahead_counts_as_now():
    ahead, later = snapshot(10, ago=-120), snapshot(20)

    assert plan([ahead, later], NOW).finals == [later]


def test_a_peak_within_a_batch_is_written_before_the_fall():
    spike = snapshot(95)

    assert plan([snapshot(10), spike, snapshot(20)], NOW) == ([spike], [snapshot(20)])


def test_without_a_fall_there_is_no_second_wave():
    assert plan([snapshot(10), snapshot(20), snapshot(1, model="other")], NOW).peaks == []


def test_a_peak_older_than_what_came_before_it_is_none():
    assert plan([snapshot(10, ago=1), snapshot(95, ago=9)], NOW).peaks == []


def test_an_older_report_is_answered_with_what_is_stored():
    old = snapshot(30, ago=60)
    state = stored(snapshot(20, ago=1), before=NOW - timedelta(seconds=1))

    (receipt,) = receipts([old], {old.key: state}, NOW)

    assert (receipt.tokens_used, receipt.applied) == (20, False)


_items = st.lists(
    st.builds(
        snapshot,
        st.integers(0, 200),
        model=st.sampled_from("ab"),
        limit=st.sampled_from([100, None]),
        ago=st.one_of(st.none(), st.integers(-300, 300)),
    ),
    min_size=1,
    max_size=12,
)


@given(_items, st.one_of(st.none(), st.integers(-100, 300)))
def test_a_batch_ends_as_its_reports_would_one_by_one(items, age):
    before = None if age is None else NOW - timedelta(seconds=max(age, 0))
    newest: dict = {}
    applied = []
    for item in items:
        at = min(item.timestamp or NOW, NOW)
        reference = newest.get(item.key, (before, None))[0]
        applied.append(reference is None or at >= reference)
        if applied[-1]:
            newest[item.key] = (at, item)
    finals = {item.key: item for item in plan(items, NOW).finals}
    states = {key: stored(item, before) for key, item in finals.items()}

    answers = receipts(items, states, NOW)

    assert [a.applied for a in answers] == applied
    for key, (_, item) in newest.items():
        assert finals[key] == item


@given(_items)
def test_the_highest_percentage_that_held_is_always_written(items):
    waves = plan(items, NOW)
    newest: dict = {}
    highest: dict = {}
    for item in items:
        at = min(item.timestamp or NOW, NOW)
        if item.key not in newest or at >= newest[item.key]:
            newest[item.key] = at
            highest[item.key] = max(highest.get(item.key, 0.0), item.percentage or 0.0)
    written: dict = {}
    for item in [*waves.peaks, *waves.finals]:
        written[item.key] = max(written.get(item.key, 0.0), item.percentage or 0.0)

    assert written == highest


def test_a_percentage_is_shown_rounded_down():
    assert shown_percentage(99.999) == 99.99
    assert shown_percentage(100.0) == 100.0
    assert shown_percentage(None) is None


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_the_shown_percentage_is_exact_to_the_last_digit(used, limit):
    assert shown_percentage(used * 100.0 / limit) == used * 10_000 // limit / 100


def test_a_peak_without_a_time_never_overtakes_the_fall_that_follows_it():
    """The fall's own time may lie between our estimate of the database's clock and that clock."""
    peak, fall = snapshot(95), snapshot(20, ago=-0.001)
    waves = plan([peak, fall], NOW)

    assert waves.peaks == [peak._replace(timestamp=fall.timestamp)]
    assert waves.finals == [fall]
