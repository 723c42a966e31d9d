"""Killed under all kinds of reports; `python -m tests.drills mixed` is the long form."""

from __future__ import annotations

from pathlib import Path

from tests.drills.ground import durable_cluster
from tests.drills.mixed import mixed


async def test_what_was_acknowledged_is_there_once_whoever_is_killed(tmp_path: Path) -> None:
    with durable_cluster() as cluster:
        report = await mixed(cluster, tmp_path, kills=2, stops=1, seed=1)

    assert report.faults == []
    assert report.figures["outcomes of requests"]["Cut"] > 0  # the kills did hit requests
    assert report.figures["outcomes of requests"]["503"] > 0  # and so did the stop
