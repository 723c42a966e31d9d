"""Windows cut time into periods without gaps or overlaps, wherever clocks jump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotabell.domain.periods import BlockWindow, CalendarWindow, parse_window

ZONES = sorted(available_timezones() - {"Factory", "localtime"})
MOMENTS = st.datetimes(datetime(1975, 1, 1), datetime(2037, 12, 1), timezones=st.just(UTC))


def period(window: str, zone: str, at: str) -> tuple[str, str, float]:
    found = parse_window(window, ZoneInfo(zone)).period_of(datetime.fromisoformat(at))
    start, end = (moment.strftime("%Y-%m-%dT%H:%MZ") for moment in found)
    return start, end, (found.end - found.start) / timedelta(hours=1)


@pytest.mark.parametrize(
    ("window", "zone", "at", "start", "end", "hours"),
    [
        ("day", "UTC", "2026-11-22T12:00Z", "2026-11-22T00:00Z", "2026-11-23T00:00Z", 24),
        ("day", "UTC", "2026-11-22T00:00Z", "2026-11-22T00:00Z", "2026-11-23T00:00Z", 24),
        ("day", "Europe/Berlin", "2026-03-29T12:00Z", "2026-03-28T23:00Z", "2026-03-29T22:00Z", 23),
        ("day", "Europe/Berlin", "2026-10-25T12Z", "2026-10-24T22:00Z", "2026-10-25T23:00Z", 25),
        # Clocks that jump at midnight: the day begins with its first moment.
        ("day", "America/Havana", "2026-03-08T12Z", "2026-03-08T05:00Z", "2026-03-09T04:00Z", 23),
        ("day", "America/Havana", "2026-11-01T12Z", "2026-11-01T04:00Z", "2026-11-02T05:00Z", 25),
        # A day that never was: Samoa went from 29 to 31 December.
        ("day", "Pacific/Apia", "2011-12-30T12Z", "2011-12-30T10:00Z", "2011-12-31T10:00Z", 24),
        ("day", "Pacific/Apia", "2011-12-30T09:59Z", "2011-12-29T10:00Z", "2011-12-30T10:00Z", 24),
        ("hour", "Asia/Kolkata", "2026-11-22T12:15Z", "2026-11-22T11:30Z", "2026-11-22T12:30Z", 1),
        # The hour that comes twice is two hours.
        ("hour", "Europe/Berlin", "2026-10-25T00:30Z", "2026-10-25T00:00Z", "2026-10-25T01:00Z", 1),
        ("hour", "Europe/Berlin", "2026-10-25T01:30Z", "2026-10-25T01:00Z", "2026-10-25T02:00Z", 1),
        ("week", "UTC", "2026-11-22T12:00Z", "2026-11-16T00:00Z", "2026-11-23T00:00Z", 168),
        ("week", "Europe/Berlin", "2026-03-29T12Z", "2026-03-22T23:00Z", "2026-03-29T22:00Z", 167),
        ("month", "UTC", "2028-02-29T12:00Z", "2028-02-01T00:00Z", "2028-03-01T00:00Z", 696),
        ("month", "UTC", "2026-12-31T23:59Z", "2026-12-01T00:00Z", "2027-01-01T00:00Z", 744),
        ("month", "Asia/Tokyo", "2026-01-31T15:00Z", "2026-01-31T15:00Z", "2026-02-28T15:00Z", 672),
        ("5h", "Europe/Berlin", "1970-01-01T07:00Z", "1970-01-01T05:00Z", "1970-01-01T10:00Z", 5),
        ("5h", "UTC", "1969-12-31T23:00Z", "1969-12-31T19:00Z", "1970-01-01T00:00Z", 5),
    ],
)  # fmt: skip
def test_a_moment_belongs_to_the_period_that_the_clocks_show(window, zone, at, start, end, hours):
    assert period(window, zone, at) == (start, end, hours)


def test_blocks_count_from_their_anchor():
    window = BlockWindow(5, anchor=datetime(2026, 1, 1, 3, tzinfo=UTC))

    assert window.period_of(datetime(2026, 1, 1, 8, tzinfo=UTC)).start.hour == 8


@pytest.mark.parametrize("text", ["", "days", "0h", "h", "-1h", "1.5h", "99999h", "5 h", "05h"])
def test_other_windows_are_refused(text):
    with pytest.raises(ValueError, match="such as 5h"):
        parse_window(text, ZoneInfo("UTC"))


@given(
    st.sampled_from(["hour", "day", "week", "month", "7h"]),
    st.sampled_from(ZONES),
    MOMENTS,
)
def test_periods_neither_overlap_nor_leave_gaps(text, zone, at):
    window = parse_window(text, ZoneInfo(zone))
    start, end = window.period_of(at)

    assert start <= at < end
    assert window.period_of(start) == (start, end)
    assert window.period_of(end - timedelta(microseconds=1)) == (start, end)
    assert window.period_of(end).start == end
    assert window.period_of(start - timedelta(microseconds=1)).end == start


@given(st.sampled_from(ZONES), MOMENTS)
def test_a_calendar_period_lies_within_one_unit_of_the_wall_clock(zone, at):
    info = ZoneInfo(zone)
    start, end = CalendarWindow("month", info).period_of(at)
    months = {
        (m.year, m.month)
        for m in (t.astimezone(info) for t in (start, at, end - timedelta(microseconds=1)))
    }

    assert len(months) == 1
