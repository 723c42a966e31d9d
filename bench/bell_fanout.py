"""One message to many browsers, against pywebpush's own way of sending, in a loop."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

import aiohttp
from tests.support.daemon import DaemonProcess

from bench.bell import USER, Figure, arrivals, receiver, ringing
from bench.ground import durable_cluster
from bench.pairs import Budget, Comparison, compare

BROWSERS = 2_000
OF_THE_PEER = 400  # messages of one run of the peer

BUDGET = Budget(
    f"a message to {BROWSERS:,} browsers, encrypted, until the last has arrived",
    "pywebpush.webpush_async in a loop",
    "pushes",
    at_least=3.0,
)


async def run(pairs: int) -> AsyncIterator[Comparison | Figure]:
    """The comparison, and what one core of the daemon does."""
    per_core: list[float] = []
    with tempfile.TemporaryDirectory() as made, durable_cluster() as cluster:
        database = cluster.create_database()
        async with receiver() as origin, ringing(Path(made), database, origin, BROWSERS) as process:

            async def own() -> float:
                begun, used = time.monotonic(), _cpu(process)
                async with aiohttp.ClientSession(process.url) as session:
                    async with session.post("/api/push/test", json={"userId": USER}) as answer:
                        assert answer.status == 202
                found = await arrivals(origin, BROWSERS)
                assert len({path for _, path in found}) == len(found) == BROWSERS
                per_core.append(BROWSERS / (_cpu(process) - used))
                return BROWSERS / (max(at for at, _ in found) - begun)

            async def theirs() -> float:
                rate = await _naive(origin)
                await arrivals(origin, OF_THE_PEER)
                return rate

            yield await compare(BUDGET, own, theirs, pairs)
    found = median(per_core[1:])
    yield Figure(
        f"{BUDGET.what}: by the daemon's own processor time",
        f"{found:,.0f} pushes/s on one core",
        "≥ 2,000/s",
        found >= 2_000,
    )


def _cpu(process: DaemonProcess) -> float:
    """Seconds of processor time that a process has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _naive(origin: str) -> float:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.bell_naive", origin, str(OF_THE_PEER)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return float(out)
