"""Arrays of usage events: against their SQL alone, and as quota states grow in number."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from statistics import median

import aiohttp
from tests.drills.outage import resident
from tests.support.daemon import DaemonProcess
from tests.support.load import Connection
from tests.support.postgres import Database

from bench.bell import Figure
from bench.ground import BEARER, TOKEN, durable_cluster
from bench.load import Load
from bench.pairs import Budget, Comparison, compare
from bench.quota_states import EVENTS, bodies, with_states
from quotabell.service.commit import BATCH_ITEMS

ITEMS = 1_000  # of one array
IN_FLIGHT = 4
FEW, MANY = 1_000, 1_000_000  # quota states
BODIES = 200  # of different users at random
SHOWN = 100_000  # quota states of the measurement of memory
SECONDS = 6.0  # of one run: a busy machine answers few of them in less

ALONE = Budget(
    f"POST of arrays of {ITEMS:,} usage events, two quotas, {IN_FLIGHT} in flight",
    f"the same SQL without HTTP, {BATCH_ITEMS:,} events a batch",
    "events",
    at_least=0.7,
)
GROWTH = Budget(
    f"POST of arrays of {ITEMS:,} usage events at {MANY:,} quota states",
    f"the same at {FEW:,}",
    "events",
    at_least=0.7,
)


async def run(pairs: int) -> AsyncIterator[Comparison]:
    """With HTTP and without."""
    with tempfile.TemporaryDirectory() as made, durable_cluster() as cluster:
        folder, database = Path(made), cluster.create_database()
        users = 10 * BATCH_ITEMS
        async with with_states(folder / "daemon", database, users) as process:
            load = Load(folder / "load", bodies(users, ITEMS, 2 * IN_FLIGHT), BEARER)

            async def own() -> float:
                return ITEMS * await load.rate(process.url + EVENTS, IN_FLIGHT, SECONDS)

            async def sql() -> float:
                return await _sql_alone(database, users)

            yield await compare(ALONE, own, sql, pairs)


async def growth(pairs: int) -> AsyncIterator[Comparison]:
    """Few states and many; the daemon that is not measured stands still."""
    with tempfile.TemporaryDirectory() as made, durable_cluster() as cluster:
        folder = Path(made)
        async with (
            with_states(folder / "few", cluster.create_database(), FEW) as small,
            with_states(folder / "many", cluster.create_database(), MANY) as large,
        ):
            loads = {
                process.pid: Load(folder / f"load-{states}", bodies(states, ITEMS, BODIES), BEARER)
                for process, states in ((small, FEW), (large, MANY))
            }

            async def rate(process: DaemonProcess, other: DaemonProcess) -> float:
                with _still(other):
                    url = process.url + EVENTS
                    return ITEMS * await loads[process.pid].rate(url, IN_FLIGHT, SECONDS)

            yield await compare(
                GROWTH, lambda: rate(large, small), lambda: rate(small, large), pairs
            )


@contextlib.contextmanager
def _still(process: DaemonProcess) -> Iterator[None]:
    process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send(signal.SIGCONT)


async def memory(rounds: int) -> AsyncIterator[Figure]:
    """Of daemons with many states and with few, each state reported to, while scraped."""
    with tempfile.TemporaryDirectory() as made, durable_cluster() as cluster:
        held: dict[int, list[int]] = {FEW: [], SHOWN: []}
        for number in range(max(1, rounds // 3)):
            for states, found in held.items():
                folder = Path(made) / f"{states}-{number}"
                async with with_states(folder, cluster.create_database(), states) as process:
                    found.append(await _memory(process, states))
    grown = median(held[SHOWN]) - median(held[FEW])
    each = grown / (SHOWN - FEW) / 1024
    yield Figure(
        f"memory of the daemon at {SHOWN:,} quota states, reported to and scraped",
        f"{each:.1f} KiB a state, {median(held[SHOWN]) / 2**20:.0f} MiB in all",
        "≤ 6 KiB",
        each <= 6,
    )


async def _memory(process: DaemonProcess, states: int) -> int:
    """The most bytes that it held after each of several rounds of reports."""
    connection = Connection(TOKEN, timeout=60)
    largest = 0
    async with aiohttp.ClientSession(process.url, headers=BEARER) as session:
        for body in bodies(states, ITEMS, states // ITEMS * 2):
            answer = await connection.post(process.url + EVENTS, body)
            assert answer.status == 200, answer.body[:300]
        for _ in range(5):
            async with session.get("/metrics") as scrape:
                assert scrape.status == 200
                await scrape.read()
            largest = max(largest, resident(process.pid))
            await asyncio.sleep(1)
    connection.abort()
    return largest


async def _sql_alone(database: Database, users: int) -> float:
    arguments = (database.dsn, str(BATCH_ITEMS), str(users), str(SECONDS))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.peers.events_sql", *arguments),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return float(out)
