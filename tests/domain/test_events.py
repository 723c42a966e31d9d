"""Repeats of one call: reduced for the database, answered as if each report came alone."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotabell.domain.events import (
    KINDS,
    Key,
    Kinds,
    Outcome,
    UsageEvent,
    near_midnight,
    neighbour_keys,
    outcomes,
    reduce_repeats,
    with_total,
)

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 23, 0, 0, tzinfo=UTC)
ACCEPTED, DUPLICATE, CORRECTED = Outcome.ACCEPTED, Outcome.DUPLICATE, Outcome.CORRECTED


def event(total: int, name: str | None = "a", at: datetime | None = NOON, **other) -> UsageEvent:
    plain = UsageEvent("s", name, at, "p", "m", "u", total, 0, 0, 0, 0, 0)
    return plain._replace(**other)


def test_the_kinds_are_the_same_everywhere_and_add_up():
    one = UsageEvent("s", "a", NOON, "p", "m", "u", 1, 2, 4, 8, 16, 32)

    assert Kinds._fields == KINDS
    assert one.kinds == Kinds(1, 2, 4, 8, 16, 32)
    assert one.total == one.kinds.total == 63
    assert one._asdict().items() >= one.kinds._asdict().items()


@pytest.mark.parametrize(
    ("total", "other"), [(None, 1), (0, 1), (10, 1), (11, 1), (12, 2), (1000, 990)]
)
def test_what_a_larger_total_has_beyond_the_kinds_is_other(total, other):
    assert with_total(Kinds(input=4, output=6, other=1), total) == Kinds(
        input=4, output=6, other=other
    )


# --- days ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("time", "neighbour"),
    [
        ("2026-11-22T00:00:00", date(2026, 11, 21)),
        ("2026-11-22T00:59:59.999999", date(2026, 11, 21)),
        ("2026-11-22T01:00:00", None),
        ("2026-11-22T22:59:59.999999", None),
        ("2026-11-22T23:00:00", date(2026, 11, 23)),
        ("2026-12-31T23:59:59", date(2027, 1, 1)),
        ("2028-03-01T00:30:00", date(2028, 2, 29)),
    ],
)
def test_an_hour_on_both_sides_of_midnight_has_a_neighbouring_day(time, neighbour):
    assert near_midnight(datetime.fromisoformat(time).replace(tzinfo=UTC)) == neighbour


def test_only_events_near_midnight_are_looked_up_under_another_day():
    late = MIDNIGHT - timedelta(minutes=1)

    assert neighbour_keys(
        [event(1), event(1, at=late), event(2, at=late), event(1, None, late), event(1, None, None)]
    ) == [("s", "a", MIDNIGHT.date())]


# --- repeats -------------------------------------------------------------------------------


def test_what_does_not_repeat_stays_as_it_is():
    batch = [event(1), event(2, "b"), event(3, source="t"), event(4, at=NOON - timedelta(days=2))]

    assert reduce_repeats(batch).events == batch
    assert reduce_repeats(batch).calls == [0, 1, 2, 3]


def test_events_without_an_id_are_all_counted():
    batch = [event(1, None), event(1, None), event(1, None, None)]
    reduced = reduce_repeats(batch)

    assert reduced == (batch, [None, None, None], [0, 1, 2])
    assert outcomes(batch, reduced, [None, None, None]) == [ACCEPTED] * 3


def test_the_first_report_decides_who_and_when_and_the_largest_how_much():
    first = event(10, user_id="alice", cost_usd=Decimal("0.1"))
    larger = UsageEvent(
        "s", "a", NOON + timedelta(hours=1), "q", "n", "bob", 1, 2, 3, 4, 5, 6, Decimal("0.2")
    )

    (merged,) = reduce_repeats([first, larger]).events

    assert merged == UsageEvent(
        *("s", "a", NOON, "p", "m", "alice"), *larger.kinds, Decimal("0.2"), first.requests
    )


def test_of_equal_totals_the_first_decides_the_kinds():
    first = event(10, cost_usd=Decimal("0.1"))
    same = event(0, output=10, user_id="bob", cost_usd=Decimal("0.2"))

    assert reduce_repeats([first, same]).events == [first]


@pytest.mark.parametrize("totals", list(permutations((1, 5, 9))))
def test_the_largest_total_counts_in_any_order(totals):
    assert reduce_repeats([event(t) for t in totals]).events[0].total == 9


def test_reports_on_both_sides_of_midnight_are_of_one_call():
    before, after = MIDNIGHT - timedelta(seconds=1), MIDNIGHT + timedelta(seconds=1)

    for first, second in ((before, after), (after, before)):
        reduced = reduce_repeats([event(1, at=first), event(2, at=second)])

        assert reduced.events == [event(2, at=first)]
        assert reduced.keys == [("s", "a", first.date())]


def test_an_event_near_midnight_joins_what_is_stored_under_the_neighbouring_day():
    late = event(5, at=MIDNIGHT - timedelta(minutes=30))
    (key,) = neighbour_keys([late])

    assert reduce_repeats([late], stored={key}).keys == [key]
    assert reduce_repeats([late]).keys == [("s", "a", late.time.date())]


@pytest.mark.parametrize(
    ("totals", "before", "expected"),
    [
        ([5], None, [ACCEPTED]),
        ([5, 5, 4], None, [ACCEPTED, DUPLICATE, DUPLICATE]),
        ([5, 7, 6, 8], None, [ACCEPTED, CORRECTED, DUPLICATE, CORRECTED]),
        ([5, 7], 5, [DUPLICATE, CORRECTED]),
        ([5, 7], 6, [DUPLICATE, CORRECTED]),
        ([5, 7], 7, [DUPLICATE, DUPLICATE]),
        ([5, 7], 0, [CORRECTED, CORRECTED]),
        ([0], None, [ACCEPTED]),
        ([0], 0, [DUPLICATE]),
    ],
)
def test_each_report_is_answered_as_if_it_had_come_alone(totals, before, expected):
    batch = [event(total) for total in totals]

    assert outcomes(batch, reduce_repeats(batch), [before]) == expected


# --- against a database that takes one report at a time ------------------------------------

_times = st.sampled_from(
    [MIDNIGHT + timedelta(minutes=m) for m in (-720, -61, -60, -1, 0, 59, 60, 720)]
)
_events = st.builds(
    lambda name, at, total, output, user: event(total, name, at, output=output, user_id=user),
    st.sampled_from(["a", "b", None]),
    _times,
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from(["alice", "bob"]),
)


def one_at_a_time(rows: dict[Key, UsageEvent], batch: list[UsageEvent]) -> list[Outcome]:
    answers = []
    for item in batch:
        if item.id is None:
            answers.append(ACCEPTED)
            continue
        key = (item.source, item.id, item.time.date())
        day = near_midnight(item.time)
        if day is not None and (item.source, item.id, day) in rows:
            key = (item.source, item.id, day)
        held = rows.get(key)
        if held is None:
            rows[key] = item
            answers.append(ACCEPTED)
        elif item.total > held.total:
            rows[key] = held._replace(**item.kinds._asdict(), cost_usd=item.cost_usd)
            answers.append(CORRECTED)
        else:
            answers.append(DUPLICATE)
    return answers


@given(st.lists(_events, max_size=5), st.lists(_events, max_size=8))
def test_a_batch_leaves_what_its_reports_would_leave_one_by_one(earlier, batch):
    rows: dict[Key, UsageEvent] = {}
    one_at_a_time(rows, earlier)
    expected = dict(rows)
    answers = one_at_a_time(expected, batch)

    reduced = reduce_repeats(batch, {key for key in neighbour_keys(batch) if key in rows})
    before = [None if key is None or key not in rows else rows[key].total for key in reduced.keys]
    keyed = [key for key in reduced.keys if key is not None]

    assert len(set(keyed)) == len(keyed)
    assert outcomes(batch, reduced, before) == answers
    assert len(reduced.events) - len(keyed) == sum(item.id is None for item in batch)
    for key, item in zip(reduced.keys, reduced.events, strict=True):
        if key is not None:
            upsert(rows, key, item)
    assert rows == expected


def upsert(rows: dict[Key, UsageEvent], key: Key, item: UsageEvent) -> None:
    held = rows.setdefault(key, item)
    if item.total > held.total:
        rows[key] = held._replace(**item.kinds._asdict(), cost_usd=item.cost_usd)
