"""The daemon's statement without HTTP, for some time: ``… DSN ROWS WRITERS SECONDS``.

Prints the rows a second. Each writer has a connection and keys of its own.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time

import uvloop

from bench.ground import report
from quotabell import log
from quotabell.domain.usage import Snapshot
from quotabell.store.database import Database
from quotabell.store.usage import UsageStore

BATCHES = 8  # of different keys, for each writer


def snapshots(first: int, rows: int) -> list[Snapshot]:
    """The reports from number ``first`` on."""
    return [
        Snapshot(r["provider"], r["model"], r["tokensUsed"], r["tokenLimit"], r["userId"])
        for r in map(report, range(first, first + rows))
    ]


async def run(dsn: str, rows: int, writers: int, seconds: float) -> float:
    """Rows a second."""
    logger = log.configure("warning").get_logger()
    database = Database(dsn, pool_size=2, prepared_statements=True, log=logger)
    await database.open()
    try:
        store = UsageStore(database)
        until = time.perf_counter() + seconds

        async def write(writer: int) -> int:
            starts = [(writer * BATCHES + n) * rows for n in range(BATCHES)]
            batches = itertools.cycle([snapshots(start, rows) for start in starts])
            written = 0
            while time.perf_counter() < until:
                await store.report(next(batches))
                written += rows
            return written

        begun = time.perf_counter()
        written = sum(await asyncio.gather(*map(write, range(writers))))
        return written / (time.perf_counter() - begun)
    finally:
        await database.close()


if __name__ == "__main__":
    dsn, rows, writers, seconds = sys.argv[1:]
    print(uvloop.run(run(dsn, int(rows), int(writers), float(seconds))))
