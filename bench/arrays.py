"""Arrays of reports, against the statement that stores them."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from bench.ground import BEARER, body, durable_cluster, ours
from bench.load import Load
from bench.pairs import Budget, Comparison, compare
from quotabell.service.commit import BATCH_ITEMS

ITEMS = 1_000  # of one array
IN_FLIGHT = 4
BODIES = 16  # of different keys
SECONDS = 2.0  # of one run

BUDGET = Budget(
    f"POST of arrays of {ITEMS:,} reports, {IN_FLIGHT} in flight",
    f"the same SQL without HTTP, {BATCH_ITEMS:,} rows a statement",
    "reports",
    at_least=0.7,
)


async def run(pairs: int) -> AsyncIterator[Comparison]:
    """The comparison; both sides update existing rows."""
    with tempfile.TemporaryDirectory() as made, durable_cluster() as cluster:
        folder = Path(made)
        starts = range(0, BODIES * ITEMS, ITEMS)
        bodies = [body(*range(start, start + ITEMS)) for start in starts]
        load = Load(folder / "load", bodies, BEARER)
        database = cluster.create_database()
        async with ours(folder / "daemon", database) as daemon:

            async def own() -> float:
                url = f"{daemon}/api/token-monitor/update"
                return ITEMS * await load.rate(url, IN_FLIGHT, SECONDS)

            async def sql() -> float:
                return await _sql_alone(database.dsn)

            yield await compare(BUDGET, own, sql, pairs)


async def _sql_alone(dsn: str) -> float:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.peers.sql_only", dsn, str(BATCH_ITEMS), "1", str(SECONDS)),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return float(out)
