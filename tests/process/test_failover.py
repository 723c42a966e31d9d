"""Leaders are killed under a Prometheus; `python -m tests.drills failover` is the long form."""

from __future__ import annotations

from pathlib import Path

from tests.drills.failover import failover
from tests.support.postgres import Database


async def test_no_sum_falls_or_doubles_and_a_service_stays_in_sight_while_leaders_are_killed(
    database: Database, tmp_path: Path
) -> None:
    report = await failover(database, tmp_path, times=1, seed=0, patient=False)

    assert report.faults == []
    assert report.figures["leaders killed"] == 1
    assert report.figures["calls reported"] > 20
    assert report.figures["scrapes of the service's name"] > 2
