"""Cumulative series: what is added to them counts once, whatever is sent again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from quotabell.domain.events import Kinds, UsageEvent
from quotabell.domain.series import (
    UNKNOWN_START,
    Cumulative,
    Mark,
    MarkKey,
    Nesting,
    Point,
    Role,
    latest,
    nested,
    settled,
)

NOW = datetime(2026, 11, 22, 14, 0, tzinfo=UTC)
START = NOW - timedelta(minutes=30)


def event(minute: float, start: datetime = START, **values: int) -> UsageEvent:
    """An export ``minute`` minutes after NOW with these sums by role."""
    at = NOW + timedelta(minutes=minute)
    points = [
        Point(f"key of {role}", _role(role), start, at, value) for role, value in values.items()
    ]
    cumulative = Cumulative(tuple(points), Nesting())
    return UsageEvent("s", None, at, "p", "m", "", *Kinds(1), None, 1, cumulative)


def _role(name: str) -> Role:
    role: Role = name  # type: ignore[assignment]
    return role


def counted(*events: UsageEvent, before: dict[MarkKey, Mark] | None = None) -> list[Kinds | None]:
    return [e and e.kinds for e in settled(events, before or {}, NOW)]


def mark(value: int, minute: float, start: datetime = START) -> dict[MarkKey, Mark]:
    return {MarkKey("s", "key of input", start): Mark(value, NOW + timedelta(minutes=minute))}


def test_only_what_was_added_counts() -> None:
    assert counted(event(0, input=70), before=mark(50, -1)) == [Kinds(20)]


def test_the_same_sums_again_count_nothing() -> None:
    assert counted(event(0, input=50), before=mark(50, -1)) == [None]


def test_an_older_or_repeated_time_counts_nothing() -> None:
    assert counted(event(-1, input=90), event(-2, input=80), before=mark(50, -1)) == [None, None]


def test_several_exports_of_a_batch_count_in_the_order_of_their_times() -> None:
    found = counted(event(2, input=90), event(1, input=70), event(2, input=90), before=mark(50, 0))

    assert found == [Kinds(20), Kinds(20), None]


def test_a_fall_within_one_run_counts_nothing_and_moves_nothing() -> None:
    found = counted(event(1, input=40), event(2, input=55), before=mark(50, 0))

    assert found == [None, Kinds(5)]


def test_without_a_start_a_fall_is_a_restart() -> None:
    before = mark(50, 0, UNKNOWN_START)
    found = counted(
        event(1, UNKNOWN_START, input=40), event(2, UNKNOWN_START, input=55), before=before
    )

    assert found == [Kinds(40), Kinds(15)]


@pytest.mark.parametrize(
    ("start", "counts"),
    [
        (NOW - timedelta(minutes=30), True),
        (NOW.replace(hour=0), True),
        (NOW.replace(hour=0) - timedelta(seconds=1), False),
        (UNKNOWN_START, False),
    ],
)
def test_a_series_first_seen_counts_in_full_if_it_began_today(
    start: datetime, counts: bool
) -> None:
    assert counted(event(0, start, input=50)) == [Kinds(50) if counts else None]
    assert counted(event(0, start, input=50), event(1, start, input=60)) == [
        Kinds(50) if counts else None,
        Kinds(10),
    ]


def test_just_after_midnight_a_series_of_the_last_hour_counts_in_full() -> None:
    midnight = NOW.replace(hour=0, minute=5)
    begun = midnight - timedelta(minutes=20)

    assert settled([event(0, begun, input=5)], {}, midnight)[0] is not None


def test_a_new_run_of_a_known_series_counts_in_full_however_old_it_is() -> None:
    start = NOW - timedelta(days=3)
    before = {MarkKey("s", "key of input", start): Mark(0, None, restarted=True)}

    assert counted(event(0, start, input=50), before=before) == [Kinds(50)]


def test_parts_are_taken_out_of_what_they_are_parts_of() -> None:
    found = counted(event(0, input=100, cache_read=30, output=50, reasoning=20, requests=4))

    assert found == [Kinds(70, 30, 0, 30, 20)]
    (settled_event,) = settled([event(0, input=100, requests=4)], {}, NOW)
    assert settled_event is not None
    assert settled_event.requests == 4


def test_a_part_larger_than_its_whole_lies_beside_it() -> None:
    assert nested({"input": 50, "cache_read": 2000}, Nesting()) == Kinds(50, 2000)


def test_marks_move_to_the_newest_of_a_batch() -> None:
    found = latest([event(2, input=90), event(1, input=70, output=5)])

    assert found == {
        MarkKey("s", "key of input", START): Mark(90, NOW + timedelta(minutes=2)),
        MarkKey("s", "key of output", START): Mark(5, NOW + timedelta(minutes=1)),
    }


def test_other_events_of_the_batch_stay_as_they_are() -> None:
    plain = UsageEvent("s", "id", NOW, "p", "m", "", *Kinds(3))

    assert settled([plain, event(0, input=1)], {}, NOW)[0] == plain
