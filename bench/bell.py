"""From the report that crosses a threshold to the push service, with other reports beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import aiohttp
from tests.support import daemon
from tests.support.outbox import outbox
from tests.support.postgres import Database
from tests.support.push_browser import Browser

from bench.ground import durable_cluster

CROSSINGS = 100  # of one round
BETWEEN = 0.03  # seconds between them
RATE = 2_000  # reports a second beside them
UPDATE = "/api/token-monitor/update"
USER = "bench"


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with a budget of its own."""

    what: str
    found: str
    budget: str
    kept: bool

    def __str__(self) -> str:
        verdict = "kept" if self.kept else "MISSED"
        return f"{self.what}\n  {self.found}   (budget {self.budget}: {verdict})"


async def run(rounds: int) -> AsyncIterator[Figure]:
    """Median and 99th percentile, each the median of the rounds."""
    with tempfile.TemporaryDirectory() as made, durable_cluster() as cluster:
        database = cluster.create_database()
        async with receiver() as origin, ringing(Path(made), database, origin, 1) as process:
            found = [await _round(process.url, origin, n) for n in range(rounds + 1)][1:]
    p50, p99 = (median(figures) * 1000 for figures in zip(*found, strict=True))
    yield Figure(
        f"report that crosses → push received, {RATE:,} reports/s beside it",
        f"p50 {p50:.1f} ms, p99 {p99:.1f} ms; medians of {rounds} rounds of {CROSSINGS}",
        "p50 ≤ 15 ms, p99 ≤ 100 ms",
        p50 <= 15 and p99 <= 100,
    )


async def _round(url: str, origin: str, number: int) -> tuple[float, float]:
    """Seconds: p50 and p99."""
    sent = []
    load = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.bell_load", url, str(RATE))
    )
    try:
        async with aiohttp.ClientSession(url) as session:
            await asyncio.sleep(0.5)
            for n in range(CROSSINGS):
                model = f"round-{number}-{n}"
                body = {"provider": "p", "model": model, "userId": USER}
                body |= {"tokensUsed": 95, "tokenLimit": 100}
                sent.append(time.monotonic())
                async with session.post(UPDATE, json=body) as answer:
                    assert answer.status == 200
                await asyncio.sleep(BETWEEN)
    finally:
        load.terminate()
        await load.wait()
    arrived = sorted(at for at, _ in await arrivals(origin, CROSSINGS))
    took = [at - begun for at, begun in zip(arrived, sent, strict=True)]
    assert min(took) > 0
    return median(took), quantiles(took, n=100)[98]


@contextlib.asynccontextmanager
async def receiver() -> AsyncIterator[str]:
    """The origin of a push service that costs next to nothing."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.bell_receiver"), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        await process.wait()


async def arrivals(origin: str, count: int, timeout: float = 60.0) -> list[tuple[float, str]]:
    """What has arrived, once it is ``count``: when, and the last characters of the path."""
    found: list[tuple[float, str]] = []
    async with aiohttp.ClientSession() as session, asyncio.timeout(timeout):
        while True:
            async with session.get(origin) as answer:
                found += json.loads(await answer.read())
            if len(found) >= count:
                return found
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def ringing(
    folder: Path, database: Database, origin: str, browsers: int
) -> AsyncIterator[daemon.DaemonProcess]:
    """A daemon with so many browsers of one user."""
    sections: dict[str, Any] = {"push": {"trusted_origins": [origin]}}
    config = daemon.write_config(folder, database.dsn, **sections)
    async with daemon.process(config) as process:
        async with outbox(database.dsn) as box:
            for n in range(browsers):
                browser = Browser(f"{origin}/wpush/v2/{n:016}", f"{n}", None)
                await box.subscribe(USER, browser.subscription)
        yield process
        assert await process.end() == 0
