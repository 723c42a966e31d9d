"""Killed at the worst moments of delivery; `python -m tests.drills bell` is the long form."""

from __future__ import annotations

from pathlib import Path

from tests.drills.bell import POINTS, bell
from tests.support.postgres import Database


async def test_no_kill_loses_a_push_and_every_duplicate_is_known(
    database: Database, tmp_path: Path
) -> None:
    report = await bell(database, tmp_path, times=1, seed=1)

    assert report.faults == []
    assert report.figures["killed"] == dict.fromkeys(POINTS, 1)
    assert report.figures["crossings"] > 20
    assert report.figures["attempts of unknown outcome"] > 0
