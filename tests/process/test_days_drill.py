"""Days by a clock that leaps; `python -m tests.drills days --times 400` is the long form."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tests.drills.days import days
from tests.drills.leaders import faketime

CHANGE = date(2026, 10, 31)  # the next day is Sunday and of 25 hours, and begins a month


@pytest.mark.skipif(faketime() is None, reason="needs the Debian package faketime")
async def test_every_period_counts_its_own_and_rings_once_through_a_change_of_the_clocks(
    tmp_path: Path,
) -> None:
    report = await days(tmp_path, first=CHANGE, length=3, zone="America/New_York", seed=1)

    assert report.faults == []
    assert report.figures["rings"] > 20
    assert report.figures["wrong with messages"] == []
