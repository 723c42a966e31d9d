"""Scrapes of ever more series, all of which changed a little since the last one.

The daemon is asked for usage alone: its own health is some 200 series of `prometheus_client`, the
same code as the peer's. Usage has a few series more than the peer: its source, and a count of users
in bands. Nothing crosses a threshold, so no alert rings and none is shown.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from statistics import median

import aiohttp
from tests.support import daemon as daemons
from tests.support import stall
from tests.support.load import Connection
from tests.support.waiting import eventually

from bench.bell import Figure
from bench.ground import BEARER, TOKEN, durable_cluster, ours, peer, report
from bench.pairs import Budget, Comparison, compare

FAMILIES = 3  # of each quota state: used, limit, ratio
CURVE = (10, 1_000, 10_000, 100_000)  # series
MILLION = 1_000_000
ITEMS = 1_000  # of one report
USED = 700_000  # at most; a threshold is at 750,000
OWN = 10  # series beside those of states: no user is to be folded
PATIENCE = 600.0  # seconds for a million series of the peer, on a machine that does other things
AT_LEAST = {10: 1 / 1.2, 100_000: 15.0}

_GZIP = b"\x1f\x8b"
_ALL = {"metrics": {"max_series": MILLION}}


async def run(pairs: int) -> AsyncIterator[Comparison | Figure]:
    """The comparison at each size, and how long 100,000 series hold the event loop."""
    for series in CURVE:
        yield await _compared(series, pairs)
    yield await _held(CURVE[-1], pairs)


async def million(pairs: int) -> AsyncIterator[Comparison | Figure]:
    """How that goes on to a million series, which nobody but who asks for it waits for."""
    for series in (*CURVE[1:], MILLION):
        yield await _compared(series, pairs)
    yield await _held(MILLION, pairs)


def _states(series: int) -> int:
    return min(series, MILLION - OWN) // FAMILIES


def _scrapes(series: int) -> int:
    """How many make one run: of few series one takes as long as the noise of the machine."""
    return max(1, min(50, 300_000 // series))


async def _compared(series: int, pairs: int) -> Comparison:
    states, scrapes = _states(series), _scrapes(series)
    budget = Budget(
        f"scrape of {series:,} series, gzip",
        "prometheus_client.generate_latest behind a handler with gzip",
        "scrapes",
        at_least=AT_LEAST.get(series),
    )
    with tempfile.TemporaryDirectory() as made, durable_cluster() as cluster:
        database = cluster.create_database()
        async with (
            ours(Path(made) / "daemon", database, **_ALL) as daemon,
            peer("generate_latest", str(states)) as stock,
        ):
            await fill(daemon, states)

            async def own() -> float:
                # A turn of the peer can be a pause, after which nothing old is told.
                await ready(daemon)
                url = f"{daemon}/metrics?collect[]=usage"
                return await _rate(url, daemon, states, scrapes=scrapes)

            async def theirs() -> float:
                return await _rate(stock, scrapes=scrapes)

            return await compare(budget, own, theirs, pairs)


async def _held(series: int, rounds: int) -> Figure:
    """In this process, where it can be seen; what refreshes in the background counts as well."""
    states, held = _states(series), []
    with tempfile.TemporaryDirectory() as made, durable_cluster() as cluster:
        auth = {"tokens": [{"name": "b", "token": TOKEN, "scopes": ["ingest", "metrics"]}]}
        dsn = cluster.create_database().dsn
        config = daemons.configure(Path(made) / "daemon", dsn, auth=auth, **_ALL)
        async with daemons.running(config) as running:
            await fill(running.url, states)
            url = f"{running.url}/metrics?collect[]=usage"
            await ready(running.url)
            await _rate(url)
            with stall.as_started():
                for _ in range(rounds):
                    held.append(await stall.longest_hold(_rate(url, running.url, states)))
    middle = median(held)
    return Figure(
        f"the event loop while {series:,} series are scraped and refreshed",
        f"held {middle * 1000:.1f} ms at most, {min(held) * 1000:.1f} to {max(held) * 1000:.1f}"
        f" in {rounds} rounds",
        f"≤ {stall.BUDGET * 1000:.0f} ms",
        middle <= stall.BUDGET,
    )


async def _rate(url: str, daemon: str = "", states: int = 0, *, scrapes: int = 3) -> float:
    """How many scrapes fit into a second, by the median of a few; states of the daemon change
    before each, in all parts of what it holds ready."""
    took = []
    patience = aiohttp.ClientTimeout(PATIENCE)
    async with aiohttp.ClientSession(
        headers=BEARER, auto_decompress=False, timeout=patience
    ) as session:
        for _ in range(scrapes):
            if daemon:
                await _send(daemon, range(0, states, max(1, states // ITEMS)))
            begun = time.perf_counter()
            async with session.get(url, headers={"Accept-Encoding": "gzip"}) as response:
                body = await response.read()
                assert (response.status, body[:2]) == (200, _GZIP)
            took.append(time.perf_counter() - begun)
    return 1 / median(took)


async def ready(daemon: str) -> None:
    """Wait until the first refresh after a pause was made, for which no scrape waits for long."""

    async def shown() -> bool:
        async with session.get(f"{daemon}/metrics?collect[]=usage") as response:
            return len(await response.read()) > 0

    async with aiohttp.ClientSession(headers=BEARER) as session:
        await eventually(shown, timeout=PATIENCE)


async def fill(daemon: str, states: int) -> None:
    """Report so many states."""
    for start in range(0, states, ITEMS):
        await _send(daemon, range(start, min(start + ITEMS, states)))


async def _send(daemon: str, numbers: range) -> None:
    used = time.time_ns() // 1_000_000 % USED
    connection = Connection(BEARER["Authorization"].removeprefix("Bearer "), timeout=60)
    body = json.dumps([report(number, used) for number in numbers]).encode()
    answer = await connection.post(f"{daemon}/api/token-monitor/update", body)
    assert answer.status == 200, answer.body[:300]
    connection.abort()
