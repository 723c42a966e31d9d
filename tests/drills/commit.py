"""The connection to Postgres is reset while a COMMIT is under way: the daemon cannot know what
became of it, its clients repeat, and each report counts once.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from pathlib import Path

from tests.drills.ground import ground
from tests.drills.mix import SECTIONS, mixing
from tests.drills.report import Report
from tests.support.pgcut import KINDS, MODES, CommitCutter
from tests.support.postgres import Database

BETWEEN = (0.0, 0.1)  # seconds of load between an answer and the cut


async def commit(database: Database, folder: Path, *, times: int, seed: int) -> Report:
    """``times`` cuts of each kind, in a random order; then compare the books."""
    chance = random.Random(seed)
    report = Report()
    ways = list(itertools.product(KINDS, MODES)) * times
    chance.shuffle(ways)
    async with (
        CommitCutter(database.cluster.port, "insert into token_usage as t") as cutter,
        ground(database, folder, cutter.dsn(database.tcp_dsn), **SECTIONS) as field,
    ):
        async with mixing([field.daemon], seed) as mix:
            for kind, mode in ways:
                await mix.more()
                await asyncio.sleep(chance.uniform(*BETWEEN))
                await cutter.cut(kind, mode)
            await mix.more()
        report.faults += await mix.audit(field.database, field.daemon.config)
        await field.daemon.end()
    report.figures |= {"cuts": dict(sorted(cutter.cuts.items())), **mix.figures}
    return report
