"""The database goes away under load and comes back.

Meanwhile reports are refused, what looks at the daemon gets an answer, and the daemon's memory
stays as it was. Afterwards what was acknowledged is there.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from tests.drills.crowd import Climbers
from tests.drills.ground import Ground, audit
from tests.drills.report import Report
from tests.support.waiting import eventually

CLIMBERS = 32
BACK_WITHIN = 2.0  # seconds from a Postgres that takes connections to an acknowledgement
ANSWERED_WITHIN = 8.0  # seconds, whatever happens
LOOKED_WITHIN = 1.0  # seconds for probes and metrics, once the loss is known
GROWTH = 12 * 1024**2  # bytes that the daemon's memory may vary by

Act = Callable[[], Awaitable[None]]


async def outage(
    ground: Ground, harm: Act, mend: Act, *, times: int, away: float, seed: int
) -> Report:
    """``times`` times: ``harm`` the database, ``mend`` it ``away`` seconds later; then compare.

    ``mend`` returns once the database takes connections.
    """
    chance = random.Random(seed)
    report = Report()
    pauses: list[float] = []
    async with Climbers(ground.url, CLIMBERS) as climbers:
        await _flows(climbers)
        memory = resident(ground.daemon.pid)
        for _ in range(times):
            await asyncio.sleep(chance.uniform(0.05, 0.6))
            await harm()
            try:
                await _refused(climbers)
                await _look_around(ground, report)
                await asyncio.sleep(away)
                grown = resident(ground.daemon.pid) - memory
            finally:
                await mend()
            if grown > GROWTH:
                report.faults.append(f"memory grew by {grown} bytes while the database was away")
            pauses.append(await _flows(climbers))
    if max(pauses) > BACK_WITHIN:
        report.faults.append(f"back only {max(pauses):.2f} s after the database")
    slowest = max(climber.slowest for climber in climbers.all)
    if slowest > ANSWERED_WITHIN:
        report.faults.append(f"an answer took {slowest:.1f} s")
    report.faults += climbers.faults + await audit(ground.database, climbers.all)
    report.figures |= {
        "acknowledged": climbers.answers,
        "outcomes": dict(climbers.outcomes),
        "seconds from the database to an acknowledgement": [round(p, 2) for p in pauses],
        "slowest answer in seconds": round(slowest, 2),
        "bytes of memory grown by": resident(ground.daemon.pid) - memory,
    }
    return report


async def _flows(climbers: Climbers) -> float:
    """Wait until reports are acknowledged; the seconds to the first one."""
    loop = asyncio.get_running_loop()
    begun, before = loop.time(), climbers.answers
    await eventually(lambda: climbers.answers > before, timeout=30, every=0.005)
    first = loop.time() - begun
    await eventually(lambda: climbers.answers > before + CLIMBERS, timeout=30)
    return first


async def _refused(climbers: Climbers) -> None:
    before = climbers.outcomes["503"]
    await eventually(lambda: climbers.outcomes["503"] > before + 2 * CLIMBERS, timeout=30)


async def _look_around(ground: Ground, report: Report) -> None:
    """Probes, metrics and a report while the database is away: answered, truly and soon."""
    seen = {}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(LOOKED_WITHIN)) as session:
        for path in ("/-/healthy", "/-/ready", "/api/token-monitor/status", "/metrics"):
            async with session.get(ground.url() + path) as response:
                seen[path] = (response.status, await response.text())
    wanted = {"/-/healthy": 200, "/-/ready": 503, "/api/token-monitor/status": 503, "/metrics": 200}
    report.faults += [
        f"{path} answered {seen[path][0]} while the database was away"
        for path, status in wanted.items()
        if seen[path][0] != status
    ]
    if '"databaseConnected":false' not in seen["/api/token-monitor/status"][1]:
        report.faults.append("the status does not tell that the database is away")
    if not re.search(r"^quotabell_database_up 0\.0$", seen["/metrics"][1], re.MULTILINE):
        report.faults.append("/metrics does not tell that the database is away")


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024
