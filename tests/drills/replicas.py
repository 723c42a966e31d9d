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
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp

from quotabell.service.deliver import LEASE
from quotabell.service.faults import POINTS
from quotabell.store.migrate import migrate
from tests.drills.bell import BROWSERS, USER, compare, die_at, subscribe
from tests.drills.crossings import PEOPLE, Crossings
from tests.drills.report import Report
from tests.http.client import UPDATE
from tests.support import daemon
from tests.support.daemon import DaemonProcess
from tests.support.load import LIMIT, snapshot, steady_port
from tests.support.nursery import nursery
from tests.support.outbox import Outbox, outbox
from tests.support.pgbouncer import pgbouncer
from tests.support.postgres import Database, connected
from tests.support.pushservice import PushService
from tests.support.waiting import eventually

REPLICAS = 3
# How often a replica passes a point before the one that kills, at most: some seconds of its life.
PASSES = {"after_claim": 8, "before_send": 16, "after_send": 16, "in_round": 80}
BEYOND = 5.0  # seconds that one is stopped for longer than its leases
LIVELY = 5.0  # seconds of work before it is stopped, and after
WITHIN = 1.5  # seconds from a report to its push without notifications
MOST = 1200.0  # seconds of kills, or of calm; what is not done by then is told
PATIENCE = 600.0  # seconds until all is told in the end, on a busy machine
SERVER_CONNECTIONS = 20  # of PgBouncer, for all
THOUSAND = 1_000
AT_ONCE = 10  # notifications to ten people each
FEW = 60  # deliveries that are left when more are given
_WITHOUT_SESSIONS = {"prepared_statements": False, "listen_url": "off"}
_YET_TO_RING = "select exists (select from token_usage where percentage >= alert_at)"
_LISTENING = (
    "from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() "
    "and (query ilike 'listen%' or query = 'select 1')"
)


@contextlib.asynccontextmanager
async def _replicas(
    dsn: str, folder: Path, push: PushService, **ways: Any
) -> AsyncIterator[list[DaemonProcess]]:
    async with contextlib.AsyncExitStack() as stack:
        launch = await stack.enter_async_context(nursery())
        found = []
        for number in range(REPLICAS):
            config = daemon.write_config(
                folder / str(number),
                dsn,
                listen=f"127.0.0.1:{steady_port()}",
                push={"trusted_origins": [push.origin]},
                alerts={"evaluate_every": "100ms"},
                database={"url": dsn, **ways},
            )
            found.append(await stack.enter_async_context(daemon.process(config, launch=launch)))
        yield found


async def replicas(
    database: Database, folder: Path, *, kills: int, stops: int, seed: int, pooled: bool = False
) -> Report:
    """So many kills of two at each point in a random order, while the third is stopped so often;
    then compare the books.

    ``pooled``: through PgBouncer in transaction mode, and without LISTEN.
    """
    report = Report()
    chance = random.Random(seed)
    async with contextlib.AsyncExitStack() as stack:
        push = await stack.enter_async_context(PushService())
        dsn, ways = database.dsn, {}
        await migrate(dsn)  # past the pooler, which migrations are not made for
        if pooled:
            dsn = await stack.enter_async_context(pgbouncer(dsn, SERVER_CONNECTIONS))
            ways = _WITHOUT_SESSIONS
        processes = await stack.enter_async_context(_replicas(dsn, folder, push, **ways))
        box = await stack.enter_async_context(outbox(database.dsn))
        url = processes[0].url
        operator = await subscribe(url, push, 0)
        owners = {f"person-{n}": "" for n in range(PEOPLE)}
        for user in owners:
            owners[user] = (await subscribe(url, push, 1, user=user)).token
        crossings = Crossings(lambda: [p.url for p in processes if p.url], box, chance)
        points = [*POINTS] * kills
        chance.shuffle(points)
        last, *others = processes
        async with crossings.at_work():
            await asyncio.gather(
                _stop(last, stops, report),
                *(_kill(victim, points, chance, report) for victim in others),
            )
        begun = time.monotonic()
        await eventually(partial(_all_told, box), timeout=PATIENCE, every=0.2)
        if points:
            report.figures["points without time"] = len(points)
        report.figures["seconds to deliver what was left"] = round(time.monotonic() - begun, 1)
        wanted = [(operator.token, model) for model in crossings.crossed]
        wanted += [(owners[u], model) for model, u in crossings.crossed.items() if u in owners]
        await compare(box, push, wanted, report)
    crossed = len(crossings.crossed)
    report.figures |= {
        "crossings": crossed,
        "seconds": round(crossings.seconds),
        "crossings a second": round(crossed / crossings.seconds),
        "reports": dict(crossings.outcomes),
    }
    return report


async def _all_told(box: Outbox) -> bool:
    """Whether all that crossed has rung, and all that rang has been told."""
    return not await box.value(_YET_TO_RING) and await box.closed()


async def _kill(
    victim: DaemonProcess, points: list[str], chance: random.Random, report: Report
) -> None:
    """Take one point after the other until none is left; the replica is at work in the end."""
    until = time.monotonic() + MOST
    await victim.end()
    while points and time.monotonic() < until:
        victim.url = ""  # it is told anew when it is ready
        point = points.pop()
        await die_at(victim, point, chance.randint(1, PASSES[point]), report)
    victim.environment = {}
    await victim.start()


async def _stop(victim: DaemonProcess, times: int, report: Report) -> None:
    """Let it go on when its leases have run out and others have sent what it was sending."""
    for number in range(times):
        await asyncio.sleep(LIVELY)
        victim.url, url = "", victim.url
        victim.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(LEASE + BEYOND)
        finally:
            victim.send(signal.SIGCONT)
        victim.url = url
        report.figures["stopped"] = number + 1
    await asyncio.sleep(LIVELY)


async def unheard(database: Database, folder: Path, *, times: int) -> Report:
    """All listening connections end so often; each time a crossing is told soon nevertheless."""
    report = Report()
    async with (
        PushService() as push,
        _replicas(database.dsn, folder, push) as processes,
        outbox(database.dsn) as box,
    ):
        browsers = [await subscribe(processes[0].url, push, n) for n in range(BROWSERS)]
        took = []
        for number in range(times):
            took.append(await _cut(processes, box, push, number))
        await eventually(box.closed, timeout=LEASE)
        wanted = [(browser.token, f"cut-{n}") for browser in browsers for n in range(times)]
        await compare(box, push, wanted, report, len(wanted))
    took.sort()
    report.figures["seconds from report to push without notifications, median"] = round(
        took[len(took) // 2], 2
    )
    report.figures["at most"] = round(took[-1], 2)
    report.figures["listening connections ended"] = REPLICAS * times
    if late := [t for t in took if t > WITHIN]:
        report.faults.append(f"{len(late)} pushes took longer than {WITHIN} s, {took[-1]:.2f} s")
    return report


async def _cut(
    processes: Sequence[DaemonProcess], box: Outbox, push: PushService, number: int
) -> float:
    """End all listening connections, report a crossing; seconds until all have been told."""

    async def all_listen() -> bool:
        return bool(await box.value(f"select count(*) >= {REPLICAS} {_LISTENING}"))

    await eventually(all_listen, timeout=30)
    told = len(push.arrivals) + BROWSERS
    body = snapshot(f"cut-{number}", LIMIT * 95 // 100, userId=USER)
    url = processes[number % REPLICAS].url
    async with aiohttp.ClientSession(url) as session:
        await box.connection.fetch(f"select pg_terminate_backend(pid) {_LISTENING}")
        began = time.monotonic()
        async with session.post(UPDATE, json=json.loads(body)) as answer:
            assert answer.status == 200, await answer.text()
    arrivals = await push.wait(told, timeout=LEASE)
    return arrivals[told - 1].at - began


async def _few_left(box: Outbox) -> bool:
    waiting = await box.value(
        "select exists (select from notification_history "
        "where status = 'pending' and enqueued_at is null)"
    )
    sql = "select count(*) from deliveries where status in ('pending', 'leased')"
    return not waiting and int(await box.value(sql)) < FEW


async def calm(database: Database, folder: Path, *, times: int, seed: int) -> Report:
    """So many thousand deliveries without any fault: each arrives exactly once."""
    report = Report()
    people = 10
    async with (
        PushService() as push,
        _replicas(database.dsn, folder, push) as processes,
        outbox(database.dsn) as box,
        connected(database.dsn) as writer,
    ):
        for _ in range(people):
            await subscribe(processes[0].url, push, 1)
        total, number = THOUSAND * times // people, 0
        began = time.monotonic()
        while number < total and time.monotonic() < began + MOST:
            await writer.executemany(
                "insert into notification_history (user_id, transition, title, body, data) "
                "values ($1, 'firing', 't', 'b', $2)",
                [
                    (USER, json.dumps({"quota": "q", "model": f"m-{n}"}))
                    for n in range(number, number + AT_ONCE)
                ],
            )
            number += AT_ONCE
            # No more at once than arrive within seconds here: a slow answer would be a fault.
            await eventually(partial(_few_left, box), timeout=PATIENCE, every=0.05)
        await eventually(box.closed, timeout=PATIENCE, every=0.5)
        unanswered = await box.value("select count(*) from attempts where outcome <> 'sent'")
        seconds = time.monotonic() - began
        arrived = Counter((a.token, a.message["model"]) for a in push.arrivals)
        report.faults += push.problems
        report.faults += await box.books(enqueued=number * people)
        again = sum(n - 1 for n in arrived.values())
        if again > unanswered:
            report.faults.append(f"{again} arrived again, {unanswered} attempts had no answer")
        if len(arrived) != number * people:
            report.faults.append(f"{len(arrived)} arrived of {number * people}")
    report.figures["deliveries"] = arrived.total()
    report.figures["arrived more than once"] = again
    report.figures["attempts without an answer in time"] = unanswered
    report.figures["deliveries a second, decrypted here"] = round(arrived.total() / seconds)
    return report
