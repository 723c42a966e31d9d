"""The daemon's way of counting events without HTTP, for some time: ``… DSN ROWS USERS SECONDS``.

Prints the events a second of one writer.
"""

from __future__ import annotations

import itertools
import sys
import time
from datetime import timedelta

import uvloop

from bench.quota_states import bodies
from quotabell import log
from quotabell.formats.events import decode
from quotabell.store.database import Database
from quotabell.store.events import EventStore

BATCHES = 16  # of different users


async def run(dsn: str, rows: int, users: int, seconds: float) -> float:
    """Events a second."""
    logger = log.configure("warning").get_logger()
    database = Database(dsn, pool_size=2, prepared_statements=True, log=logger)
    await database.open()
    try:
        store = EventStore(database)
        now = database.clock.now()
        skew, oldest = timedelta(minutes=5), now - timedelta(days=1)
        decoded = [
            decode(body, now=now, future_skew=skew, oldest=oldest, max_batch=rows)
            for body in bodies(users, min(rows, users), BATCHES)
        ]
        batches = itertools.cycle([batch.events for batch in decoded])
        await store.report(next(batches))
        written, begun = 0, time.perf_counter()
        while time.perf_counter() < begun + seconds:
            written += len((await store.report(next(batches))).receipts)
        return written / (time.perf_counter() - begun)
    finally:
        await database.close()


if __name__ == "__main__":
    dsn, rows, users, seconds = sys.argv[1:]
    print(uvloop.run(run(dsn, int(rows), int(users), float(seconds))))
