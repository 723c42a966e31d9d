"""Claims and acknowledgements, with fence and attempt row, without anything being sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from statistics import median

from tests.support.outbox import Outbox, outbox

from bench.bell import USER, Figure
from bench.ground import durable_cluster
from quotabell import log
from quotabell.errors import Conflict
from quotabell.store.database import Database
from quotabell.store.delivery import DeliveryStore
from quotabell.store.migrate import migrate
from quotabell.store.outcomes import Told

BROWSERS = 500
MESSAGES = 16  # of one round
WORKERS = 8
BATCH = 100
LEASE = timedelta(seconds=30)


async def run(rounds: int) -> AsyncIterator[Figure]:
    """The median of the rounds."""
    logger = log.configure("warning").get_logger()
    with durable_cluster() as cluster:
        dsn = cluster.create_database().dsn
        await migrate(dsn)
        database = Database(dsn, pool_size=WORKERS, prepared_statements=True, log=logger)
        await database.open()
        try:
            async with outbox(dsn) as box:
                for n in range(BROWSERS):
                    await box.subscribe(USER, {"endpoint": f"https://push.example/{n}"})
                store = DeliveryStore(database)
                found = median([await _round(box, store) for _ in range(rounds + 1)][1:])
        finally:
            await database.close()
    yield Figure(
        f"claim and acknowledge, {WORKERS} workers, {BATCH} at once, fence and attempt row",
        f"{found:,.0f} deliveries/s",
        "≥ 8,000/s",
        found >= 8_000,
    )


async def _round(box: Outbox, store: DeliveryStore) -> float:
    """Deliveries a second."""
    alerts = [await box.alert(USER) for _ in range(MESSAGES)]
    for alert in alerts:  # one at a time: many at once are one message
        await box.announce(USER, alert=alert, seq=1)
        while await store.enqueue(1):
            pass
    await box.connection.execute("vacuum analyze deliveries, attempts")
    begun = time.perf_counter()
    done = sum(await asyncio.gather(*(_work(store, f"{n}") for n in range(WORKERS))))
    took = time.perf_counter() - begun
    assert done == BROWSERS * MESSAGES
    assert await box.books() == []
    return done / took


async def _work(store: DeliveryStore, worker: str) -> int:
    done = 0
    while True:
        try:
            claimed, _ = await store.claim(BATCH, BROWSERS * MESSAGES, LEASE, {}, worker)
        except Conflict:
            continue
        if not claimed:
            return done
        told = [Told(c.id, c.fence, "sent", "sent", 201, "sent") for c in claimed]
        assert len(await store.acknowledge(told)) == len(told)
        done += len(told)
