"""SIGKILL of the daemon at random moments under load: what was acknowledged is there."""

from __future__ import annotations

import asyncio
import random
import signal

from tests.drills.crowd import Climbers
from tests.drills.ground import Ground, audit
from tests.drills.report import Report
from tests.support.waiting import eventually

CLIMBERS = 32
BETWEEN = (0.0, 0.3)  # seconds of load between an answer and the kill


async def kill(ground: Ground, *, times: int, seed: int) -> Report:
    """Kill and start again ``times`` times, then compare the books."""
    chance = random.Random(seed)
    report = Report()
    async with Climbers(ground.url, CLIMBERS) as climbers:
        for _ in range(times):
            before = climbers.answers
            await eventually(lambda: climbers.answers > before + CLIMBERS)  # noqa: B023
            await asyncio.sleep(chance.uniform(*BETWEEN))
            await ground.daemon.end(signal.SIGKILL)
            await ground.daemon.start()
        before = climbers.answers
        await eventually(lambda: climbers.answers > before + CLIMBERS)
    report.faults += climbers.faults + await audit(ground.database, climbers.all)
    report.figures["acknowledged"] = climbers.answers
    report.figures["outcomes"] = dict(climbers.outcomes)
    return report
