"""Postgres takes no writes; `python -m tests.drills refusing` is the long form."""

from __future__ import annotations

import os
from pathlib import Path

from tests.drills.ground import durable_cluster
from tests.drills.refusing import refusing


async def test_a_database_that_takes_no_writes_is_told_and_loses_nothing(tmp_path: Path) -> None:
    way = "full" if os.geteuid() == 0 else "read-only"  # only root may mount a small disk
    with durable_cluster() as cluster:
        report = await refusing(cluster, tmp_path, way=way, times=1, seed=1, away=0.2)

    assert report.faults == []
    assert report.figures["outcomes of requests"]["503"] > 0
