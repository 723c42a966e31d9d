"""Three daemons on one database: killed in the midst of delivery, stopped for longer than a lease,
and cut off from their notifications; and, for comparison, nothing of this at all.

The oracle is that of `bell`: the push service's own log.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp

from quotabell.service.faults import POINTS
from tests.drills.bell import BROWSERS, PASSES, USER, Ringers, audit, die_at, subscribe
from tests.drills.report import Report
from tests.http.client import UPDATE
from tests.support import daemon
from tests.support.daemon import DaemonProcess
from tests.support.load import LIMIT, snapshot
from tests.support.outbox import Outbox, outbox
from tests.support.postgres import Database, connected
from tests.support.pushservice import PushService
from tests.support.waiting import eventually

REPLICAS = 3
KILLED = [point for point in POINTS if point != "in_round"]  # where one of them is alone
LEASE = 30.0  # seconds, of the daemon
BEYOND = 5.0  # seconds that one is stopped for longer
WITHIN = 1.5  # seconds from a report to its push without notifications
CUTS = 10  # of the listening connections, for each time
THOUSAND = 1_000
_LISTENING = (
    "select pg_terminate_backend(pid) from pg_stat_activity "
    "where datname = current_database() and (query ilike 'listen%' or query = 'select 1')"
)


@contextlib.asynccontextmanager
async def _replicas(
    database: Database, folder: Path, push: PushService, **alerts: object
) -> AsyncIterator[list[DaemonProcess]]:
    async with contextlib.AsyncExitStack() as stack:
        found = []
        for number in range(REPLICAS):
            config = daemon.write_config(
                folder / str(number),
                database.dsn,
                push={"trusted_origins": [push.origin]},
                alerts={"evaluate_every": "100ms", **alerts},
            )
            found.append(await stack.enter_async_context(daemon.process(config)))
        yield found


async def replicas(database: Database, folder: Path, *, times: int, seed: int) -> Report:
    """Each fault ``times`` times, in a random order, always to another; then compare the books."""
    report = Report()
    chance = random.Random(seed)
    faults = [*KILLED, "stopped"] * times
    chance.shuffle(faults)
    async with (
        PushService() as push,
        _replicas(database, folder, push) as processes,
        outbox(database.dsn) as box,
    ):
        browsers = [await subscribe(processes[0].url, push, n) for n in range(BROWSERS)]
        latest = 0.0
        for number in range(CUTS * times):
            latest = max(latest, await _cut(processes, box, push, number))
        report.figures["seconds from report to push without notifications, at most"] = round(
            latest, 2
        )
        if latest > WITHIN:
            report.faults.append(f"a push without notifications took {latest:.2f} s")
        ringers = Ringers(lambda: chance.choice([p.url for p in processes if p.url]))
        async with ringers.at_work():
            for number, fault in enumerate(faults):
                victim = processes[number % REPLICAS]
                if fault == "stopped":
                    await _stop(victim)
                    report.figures["stopped"] = report.figures.get("stopped", 0) + 1
                else:
                    await _kill(victim, fault, chance, report)
        begun = time.monotonic()
        await eventually(box.closed, timeout=2 * LEASE, every=0.1)
        report.figures["seconds to deliver what was left"] = round(time.monotonic() - begun, 1)
        await audit(box, push, browsers, ringers, report)
    report.figures["crossings"] = len(ringers.crossed)
    report.figures["reports"] = dict(ringers.outcomes)
    return report


async def _cut(
    processes: list[DaemonProcess], box: Outbox, push: PushService, number: int
) -> float:
    """End all listening connections, report a crossing; seconds until all have been told."""
    await box.connection.fetch(_LISTENING)
    told = len(push.arrivals) + BROWSERS
    began = time.monotonic()
    async with aiohttp.ClientSession() as session:
        body = snapshot(f"cut-{number}", LIMIT * 95 // 100, userId=USER)
        url = processes[number % REPLICAS].url
        async with session.post(url + UPDATE, json=json.loads(body)) as answer:
            assert answer.status == 200, await answer.text()
    arrivals = await push.wait(told, timeout=LEASE)
    return arrivals[told - 1].at - began


async def _kill(victim: DaemonProcess, point: str, chance: random.Random, report: Report) -> None:
    await victim.end()
    victim.url = ""
    # With three at work, each passes a point more seldom.
    await die_at(victim, point, chance.randint(1, max(1, PASSES[point] // 4)), report)
    victim.url, victim.environment = "", {}
    await victim.start()


async def _stop(victim: DaemonProcess) -> None:
    """Let it go on when its leases have run out and others have sent what it was sending."""
    victim.url, url = "", victim.url
    victim.send(signal.SIGSTOP)
    try:
        await asyncio.sleep(LEASE + BEYOND)
    finally:
        victim.send(signal.SIGCONT)
    victim.url = url


async def calm(database: Database, folder: Path, *, times: int, seed: int) -> Report:
    """So many thousand deliveries without any fault: each arrives exactly once."""
    report = Report()
    people = 10
    async with (
        PushService() as push,
        _replicas(database, folder, push) as processes,
        outbox(database.dsn) as box,
        connected(database.dsn) as writer,
    ):
        for _ in range(people):
            await subscribe(processes[0].url, push, 1)
        total = THOUSAND * times // people
        began = time.monotonic()
        for number in range(0, total, 500):
            await writer.executemany(
                "insert into notification_history (user_id, transition, title, body, data) "
                "values ($1, 'firing', 't', 'b', $2)",
                [
                    (USER, json.dumps({"quota": "q", "model": f"m-{n}"}))
                    for n in range(number, min(number + 500, total))
                ],
            )
        await eventually(box.closed, timeout=60 + THOUSAND * times / 20, every=0.5)
        seconds = time.monotonic() - began
        arrived = Counter((a.token, a.message["model"]) for a in push.arrivals)
        report.faults += push.problems
        report.faults += await box.books(enqueued=total * people)
        report.faults += [f"{k[1]}: {n} arrivals" for k, n in arrived.items() if n > 1]
        if len(arrived) != total * people:
            report.faults.append(f"{len(arrived)} arrived of {total * people}")
    report.figures["deliveries"] = arrived.total()
    report.figures["arrived more than once"] = sum(n - 1 for n in arrived.values())
    report.figures["deliveries a second, decrypted here"] = round(arrived.total() / seconds)
    return report
