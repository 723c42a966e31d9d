"""Single reports, each acknowledged after its commit, with a token."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from bench.ground import BEARER, body, durable_cluster, ours, peer
from bench.load import Load
from bench.pairs import Budget, Comparison, compare

CONNECTIONS = 64
KEYS = 1_000
SECONDS = 2.0  # of one run
PATH = "/api/token-monitor/update"

DECODING = Budget(
    f"POST of one report, acknowledged after its commit, token, {CONNECTIONS} connections",
    "an aiohttp handler that only decodes",
    "requests",
    at_least=0.50,
    aim=0.70,
)
INSERTING = Budget(DECODING.what, "an INSERT per request over a pool", "requests", at_least=3.0)


async def run(pairs: int) -> AsyncIterator[Comparison]:
    """Both comparisons."""
    with tempfile.TemporaryDirectory() as made, durable_cluster() as cluster:
        folder = Path(made)
        load = Load(folder / "load", [body(number) for number in range(KEYS)], BEARER)
        database = cluster.create_database()
        async with (
            ours(folder / "daemon", database) as daemon,
            peer("decode_only") as decoding,
            peer("insert_each", database.dsn) as inserting,
        ):

            async def own() -> float:
                return await load.rate(daemon + PATH, CONNECTIONS, SECONDS)

            async def decode() -> float:
                return await load.rate(decoding, CONNECTIONS, SECONDS)

            async def insert() -> float:
                return await load.rate(inserting, CONNECTIONS, SECONDS)

            yield await compare(DECODING, own, decode, pairs)
            yield await compare(INSERTING, own, insert, pairs)
