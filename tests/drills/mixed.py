"""SIGKILL of the daemon and immediate stops of Postgres at random moments under a mix of reports:
what was acknowledged is there, once.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from pathlib import Path

from tests.drills.ground import DurableCluster, ground
from tests.drills.mix import SECTIONS, mixing
from tests.drills.report import Report

BETWEEN = (0.0, 0.3)  # seconds of load between an answer and the fault
AWAY = (0.0, 0.5)  # seconds that Postgres is stopped for


async def mixed(
    cluster: DurableCluster, folder: Path, *, kills: int, stops: int, seed: int
) -> Report:
    """So many of each, in a random order; then compare the books."""
    chance = random.Random(seed)
    report = Report()
    faults = ["kill"] * kills + ["stop"] * stops
    chance.shuffle(faults)
    began = time.monotonic()
    async with ground(cluster.create_database(), folder, **SECTIONS) as field:
        async with mixing([field.daemon], seed) as mix:
            for fault in faults:
                await mix.more()
                await asyncio.sleep(chance.uniform(*BETWEEN))
                if fault == "kill":
                    await field.daemon.end(signal.SIGKILL)
                    await field.daemon.start()
                else:
                    await cluster.crash()
                    await asyncio.sleep(chance.uniform(*AWAY))
                    await cluster.restart()
            await mix.more()
        report.faults += await mix.audit(field.database, field.daemon.config)
    report.figures |= {"kills": kills, "stops of Postgres": stops, **mix.figures}
    report.figures["seconds"] = round(time.monotonic() - began)
    return report
