"""Replicas under all kinds of reports; the one that leads is killed, or stopped for longer than
its lease and continued, and the clock of one may be off by minutes.

What was acknowledged is there, once; what rang twice is marked unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import signal
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp

from quotabell.service.evaluate import LEASE
from tests.drills.bell import BROWSERS, Ringers, audit, subscribe
from tests.drills.ground import keep_history, rows
from tests.drills.mix import SECTIONS, mixing
from tests.drills.report import Report
from tests.support import daemon
from tests.support.daemon import DaemonProcess
from tests.support.load import steady_port
from tests.support.outbox import outbox
from tests.support.postgres import Database
from tests.support.pushservice import PushService
from tests.support.waiting import eventually

STOPPED = 13.0  # seconds; the lease is of ten
TAKEN_WITHIN = 30.0  # seconds until another leads, on a busy machine
PATIENCE = 5.0  # seconds after which a client asks another replica
SKEW = 600.0  # seconds
_LAPSE = f"update leases set expires_at = now() where name = '{LEASE}'"


def faketime() -> Path | None:
    """The library that shows programs another time; of the Debian package ``faketime``."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


def off_by(seconds: float) -> dict[str, str]:
    """The environment of a program whose clock is ahead; time spans stay as they are."""
    library = faketime()
    assert library is not None, "the package faketime is not installed"
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"{seconds:+.0f}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


async def leaders(
    database: Database,
    folder: Path,
    *,
    replicas: int,
    kills: int,
    stops: int,
    seed: int,
    skew: float = 0.0,
    patient: bool = True,
) -> Report:
    """So many faults of whoever leads, in a random order; then compare the books.

    ``skew``: seconds that the clock of the first replica is ahead. ``patient``: the lease of who
    was killed runs out by itself, else as if it had.
    """
    report = Report()
    chance = random.Random(seed)
    faults = ["kill"] * kills + ["stop"] * stops
    chance.shuffle(faults)
    async with (
        PushService() as push,
        _replicas(database, folder, push, replicas, skew) as processes,
        outbox(database.dsn) as box,
    ):
        await keep_history(database)
        browsers = [await subscribe(processes[0].url, push, n) for n in range(BROWSERS)]
        ringers = Ringers(lambda: chance.choice(processes).url)
        async with mixing(processes, seed, timeout=PATIENCE) as mix, ringers.at_work():
            for fault in faults:
                await mix.more(60.0)
                took = await _harm(fault, processes, database, patient)
                name = f"seconds until another leads after a {fault}, at most"
                report.figures[name] = max(report.figures.get(name, 0.0), round(took, 1))
            await mix.more(60.0)
        await eventually(box.closed, timeout=90, every=0.1)
        await audit(box, push, browsers, ringers, report)
        report.faults += await mix.audit(database, processes[0].config)
        if skew:
            report.faults += await _clocks(database, processes, skew, report)
    report.figures |= {"faults": len(faults), "crossings": len(ringers.crossed), **mix.figures}
    return report


@contextlib.asynccontextmanager
async def _replicas(
    database: Database, folder: Path, push: PushService, count: int, skew: float
) -> AsyncIterator[list[DaemonProcess]]:
    async with contextlib.AsyncExitStack() as stack:
        made = []
        for number in range(count):
            config = daemon.write_config(
                folder / str(number),
                database.tcp_dsn,
                listen=f"127.0.0.1:{steady_port()}",
                push={"trusted_origins": [push.origin]},
                **SECTIONS,
            )
            environment = off_by(skew) if skew and not number else {}
            made.append(await stack.enter_async_context(daemon.process(config, environment)))
        yield made


async def _holder(database: Database) -> str:
    found = await rows(database, f"select holder from leases where name = '{LEASE}'")
    return found[0]["holder"] if found else ""


async def _leader(processes: Sequence[DaemonProcess]) -> DaemonProcess | None:
    for process in processes:
        if await _gauge(process, "quotabell_leader") == 1.0:
            return process
    return None


async def _gauge(process: DaemonProcess, name: str) -> float:
    async with aiohttp.ClientSession(process.url) as session, session.get("/metrics") as answer:
        found = re.search(rf"^{name} (\S+)$", await answer.text(), re.MULTILINE)
    assert found is not None
    return float(found[1])


async def _harm(
    fault: str, processes: Sequence[DaemonProcess], database: Database, patient: bool
) -> float:
    """Kill or stop the leader and see it back; seconds until another one held its lease.

    One that was killed may take its own lease back, and is started only when it has lost it.
    """
    victim = await eventually(lambda: _leader(processes), timeout=60)
    holder = await _holder(database)
    began = time.monotonic()
    victim.send(signal.SIGKILL if fault == "kill" else signal.SIGSTOP)
    if fault == "kill" and not patient:
        await rows(database, _LAPSE)

    async def taken() -> bool:
        return await _holder(database) not in ("", holder)

    try:
        await eventually(taken, timeout=TAKEN_WITHIN, every=0.1)
        took = time.monotonic() - began
        if fault == "stop":
            await asyncio.sleep(max(0.0, STOPPED - took))
    finally:
        if fault == "kill":
            await victim.end(signal.SIGKILL)
            await victim.start()
        else:
            victim.send(signal.SIGCONT)
    return took


async def _clocks(
    database: Database, processes: Sequence[DaemonProcess], skew: float, report: Report
) -> list[str]:
    """The metric tells whose clock is off, and what comes without a time gets the database's."""
    offsets = [await _gauge(process, "quotabell_clock_offset_seconds") for process in processes]
    report.figures["quotabell_clock_offset_seconds"] = [round(offset, 1) for offset in offsets]
    wanted = [skew] + [0.0] * (len(processes) - 1)
    faults = [
        f"a clock off by {want} s is shown as off by {offset}"
        for offset, want in zip(offsets, wanted, strict=True)
        if abs(offset - want) > 5.0
    ]
    event = {"provider": "clock", "model": "m", "inputTokens": 1}
    async with aiohttp.ClientSession(processes[0].url) as session:
        async with session.post("/api/token-monitor/events", json=[event]) as answer:
            assert answer.status == 200, await answer.text()
    [row] = await rows(
        database,
        "select extract(epoch from now() - time)::float8 as age from usage_events "
        "where provider = 'clock'",
    )
    if abs(row["age"]) > 60.0:
        faults.append(f"an event without a time was stored as {row['age']:.0f} s old")
    ahead = await rows(
        database,
        "select max(expires_at) - now() > interval '11 seconds' as far from leases "
        f"where name = '{LEASE}'",
    )
    if ahead[0]["far"]:
        faults.append("a lease ends by another clock than the database's")
    return faults
