"""Killed while usage events are counted; `python -m tests.drills events` is the long form."""

from __future__ import annotations

from pathlib import Path

from tests.drills.events import events
from tests.support.postgres import Database


async def test_no_kill_and_no_change_of_quotas_makes_a_call_count_twice_or_not_at_all(
    database: Database, tmp_path: Path
) -> None:
    report = await events(database, tmp_path, times=6, seed=1)

    assert report.faults == []
    assert report.figures["outcomes"]["Cut"] > 0  # the kills did hit requests
    assert min(report.figures["as"].values()) > 100  # accepted, duplicates, corrected
