"""Cut off while committing; `python -m tests.drills commit` is the long form."""

from __future__ import annotations

from pathlib import Path

from tests.drills.commit import commit
from tests.support.postgres import Database


async def test_a_commit_whose_answer_is_lost_counts_once(
    database: Database, tmp_path: Path
) -> None:
    report = await commit(database, tmp_path, times=1, seed=1)

    assert report.faults == []
    assert len(report.figures["cuts"]) == 6  # before, during, after; of either kind of commit
    assert report.figures["outcomes of requests"]["503"] > 0
