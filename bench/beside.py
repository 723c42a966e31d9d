"""How late reports are answered while Prometheus scrapes as much as it may."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from statistics import median, quantiles

from tests.support import daemon as daemons
from tests.support.daemon import DaemonProcess
from tests.support.load import Connection
from tests.support.postgres import Database

from bench.bell import Figure
from bench.ground import TOKEN, body, durable_cluster
from bench.scrape import FAMILIES, fill, ready

SERIES = 100_000
EVERY = 1.0  # seconds between scrapes, where Prometheus usually leaves 15
RATE = 200  # reports a second, whatever becomes of those before
CONNECTIONS = 32
SECONDS = 12.0  # of one turn: as many scrapes, and 24 reports beyond the percentile
AT_MOST = 2.0


async def run(pairs: int) -> AsyncIterator[Figure]:
    """The 99th percentile of two daemons by turns, of which one is scraped while it is its turn.

    Who is never scraped refreshes nothing in the background either. The figure is that of the
    middle turn of each side: a machine that does other things spoils whole turns, and of what is
    left the ratio of two neighbours would tell more of their luck than of scrapes.
    """
    with tempfile.TemporaryDirectory() as made, durable_cluster() as cluster:
        async with (
            _filled(Path(made) / "scraped", cluster.create_database()) as scraped,
            _filled(Path(made) / "quiet", cluster.create_database()) as quiet,
        ):
            found = []
            for number in range(pairs + 1):
                whose = {True: scraped, False: quiet}
                order = sorted(whose, reverse=bool(number % 2))
                found.append({scrapes: await _turn(whose[scrapes], scrapes) for scrapes in order})
    turns = {side: sorted(one[side] * 1000 for one in found[1:]) for side in (False, True)}
    alone, beside = (median(turns[side]) for side in (False, True))
    ratio = beside / alone
    yield Figure(
        f"99th percentile of {RATE} POSTs of a report a second while {SERIES:,} series"
        f" are scraped every {EVERY:.0f} s, gzip",
        f"{ratio:.2f} × without scrapes; {beside:.1f} ms ({_spread(turns[True])}),"
        f" without {alone:.1f} ms ({_spread(turns[False])}), the middle of {pairs} turns each",
        f"≤ {AT_MOST:.1f} ×",
        ratio <= AT_MOST,
    )


def _spread(turns: Sequence[float]) -> str:
    """Between which figures half of the turns are."""
    low, _, high = (
        quantiles(turns, n=4, method="inclusive") if len(turns) > 1 else (turns[0], 0.0, turns[0])
    )
    return f"half of them {low:.1f} to {high:.1f}"


@contextlib.asynccontextmanager
async def _filled(folder: Path, database: Database) -> AsyncIterator[DaemonProcess]:
    """A daemon with so many series, stopped until its turn."""
    token = {"name": "bench", "token": TOKEN, "scopes": ["ingest", "metrics"]}
    config = daemons.write_config(folder, database.dsn, auth={"tokens": [token]})
    async with daemons.process(config) as process:
        await fill(process.url, SERIES // FAMILIES)
        await ready(process.url)
        process.send(signal.SIGSTOP)
        try:
            yield process
        finally:
            process.send(signal.SIGCONT)


async def _turn(process: DaemonProcess, scrapes: bool) -> float:
    """The 99th percentile in seconds."""
    process.send(signal.SIGCONT)
    try:
        async with _scraped(process.url) if scrapes else contextlib.nullcontext():
            await asyncio.sleep(2 * EVERY)  # until what stood still has gone on
            took = await _report(process.url)
    finally:
        process.send(signal.SIGSTOP)
    return quantiles(took, n=100)[98]


@contextlib.asynccontextmanager
async def _scraped(url: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.scraper", f"{url}/metrics?collect[]=usage", str(EVERY)),
        TOKEN,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(120):
            assert await process.stdout.readline() == b"scraping\n"
        yield
        said, _ = await process.communicate(b"\n")
        assert int(said) > SECONDS / EVERY / 2, said
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _report(url: str) -> list[float]:
    """How long each report took from when it was due."""
    begun, took = time.perf_counter(), []

    async def send(line: int) -> None:
        connection = Connection(TOKEN)
        for number in range(line, int(RATE * SECONDS), CONNECTIONS):
            due = begun + number / RATE
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            report = body(number * 97 % (SERIES // FAMILIES))
            answer = await connection.post(f"{url}/api/token-monitor/update", report)
            assert answer.status == 200, answer.body[:300]
            took.append(time.perf_counter() - due)
        connection.abort()

    await asyncio.gather(*(send(line) for line in range(CONNECTIONS)))
    return took
