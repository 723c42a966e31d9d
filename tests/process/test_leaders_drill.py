"""Whoever leads is killed; `python -m tests.drills leaders clock` is the long form."""

from __future__ import annotations

from pathlib import Path

from tests.drills.leaders import SKEW, faketime, leaders
from tests.support.postgres import Database


async def test_another_leads_and_nothing_is_lost_whatever_the_clock_of_one_says(
    database: Database, tmp_path: Path
) -> None:
    skew = SKEW if faketime() else 0.0

    report = await leaders(
        database, tmp_path, replicas=2, kills=1, stops=0, seed=1, skew=skew, patient=False
    )

    assert report.faults == []
    assert report.figures["crossings"] > 0
