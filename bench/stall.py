"""How long bodies of 30 MB hold the event loop of a daemon, which serves everybody else."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

from tests.support import daemon, stall

from bench.bell import Figure
from bench.ground import durable_cluster


async def run(rounds: int) -> AsyncIterator[Figure]:
    """The longest hold of each format: the median of the rounds."""
    with tempfile.TemporaryDirectory() as made, durable_cluster() as cluster:
        folder = Path(made)
        config = daemon.configure(folder / "daemon", cluster.create_database().dsn)
        async with daemon.running(config) as running:
            with stall.as_started():
                for name, large in stall.BODIES.items():
                    yield await _measured(running.url, name, large, folder / "body", rounds)


async def _measured(url: str, name: str, large: stall.Large, file: Path, rounds: int) -> Figure:
    held = []
    for _ in range(rounds):
        file.write_bytes(large.make())
        held.append(await stall.longest_hold(stall.sent(url, large, file)))
    middle, size = median(held), file.stat().st_size / 1e6
    return Figure(
        f"the event loop while a body of {size:.0f} MB is taken: {name}",
        f"held {middle * 1000:.1f} ms at most, {min(held) * 1000:.1f} to {max(held) * 1000:.1f}"
        f" in {rounds} rounds",
        f"≤ {stall.BUDGET * 1000:.0f} ms",
        middle <= stall.BUDGET,
    )
