"""A scrape of many quota states."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

import aiohttp
from tests.support.load import Connection

from bench.ground import BEARER, body, durable_cluster, ours, peer
from bench.pairs import Budget, Comparison, compare

STATES = 10_000
ITEMS = 1_000  # of one report that makes them
SCRAPES = 5  # of one run

BUDGET = Budget(
    f"scrape of {STATES:,} quota states, three families, gzip",
    "prometheus_client.generate_latest behind a handler with gzip",
    "scrapes",
)


async def run(pairs: int) -> AsyncIterator[Comparison]:
    """The comparison, one scrape after the other."""
    with tempfile.TemporaryDirectory() as made, durable_cluster() as cluster:
        folder = Path(made)
        async with (
            ours(folder / "daemon", cluster.create_database()) as daemon,
            peer("generate_latest", str(STATES)) as stock,
        ):
            await _fill(daemon)

            async def own() -> float:
                return await _rate(f"{daemon}/metrics?collect[]=usage")

            async def theirs() -> float:
                return await _rate(stock)

            yield await compare(BUDGET, own, theirs, pairs)


async def _rate(url: str) -> float:
    """How many scrapes fit into a second, by the median of a few."""
    took = []
    async with aiohttp.ClientSession(headers=BEARER, auto_decompress=False) as session:
        for _ in range(SCRAPES):
            begun = time.perf_counter()
            async with session.get(url, headers={"Accept-Encoding": "gzip"}) as response:
                assert (response.status, response.headers["Content-Encoding"]) == (200, "gzip")
                await response.read()
            took.append(time.perf_counter() - begun)
    return 1 / median(took)


async def _fill(daemon: str) -> None:
    connection = Connection(BEARER["Authorization"].removeprefix("Bearer "), timeout=60)
    for start in range(0, STATES, ITEMS):
        numbers = range(start, start + ITEMS)
        answer = await connection.post(f"{daemon}/api/token-monitor/update", body(*numbers))
        assert answer.status == 200, answer.body[:300]
    connection.abort()
