"""Thousands of quotas cross at once, and later end at once: each recipient hears once of each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from functools import partial
from pathlib import Path

from quotabell.store.digests import LINGER_AT_MOST
from tests.drills.bell import subscribe
from tests.drills.report import Report
from tests.support import daemon
from tests.support.load import UPDATE, Connection, Cut
from tests.support.outbox import Outbox, outbox
from tests.support.postgres import Database
from tests.support.push_browser import Browser
from tests.support.pushservice import PushService
from tests.support.waiting import eventually

OPERATORS = 3  # with a browser each
OWN = "user-7"  # who has a browser, and one of the quotas
PATIENCE = 300.0  # seconds, on a busy machine


async def storm(database: Database, folder: Path, *, count: int) -> Report:
    """``count`` quotas of as many users, in one report: as many as `max_batch` is at most."""
    report = Report()
    async with PushService() as push, outbox(database.dsn) as box:
        config = daemon.write_config(folder, database.dsn, push={"trusted_origins": [push.origin]})
        async with daemon.process(config) as process:
            browsers = [await subscribe(process.url, push, 0) for _ in range(OPERATORS)]
            own = await subscribe(process.url, push, 1, user=OWN)
            before = _memory(process.pid, "VmRSS")
            for percent, told in ((95, "above a threshold"), (10, "resolved")):
                seen = len(push.arrivals)
                began = time.monotonic()
                await _report(process.url, count, percent)
                took = {"answered": time.monotonic() - began}
                await eventually(partial(_all_told, box, count, percent), PATIENCE, every=0.2)
                arrivals = push.arrivals[seen:]
                took["told"] = arrivals[-1].at - began
                for name, seconds in took.items():
                    report.figures[f"seconds until all that are {told} are {name}"] = round(
                        seconds, 1
                    )
                report.faults += _differs(push, browsers, own, told, count, took["told"])
            grown = _memory(process.pid, "VmHWM") - before
            report.faults += push.problems
            report.faults += await box.books()
    report.figures["quotas"] = count
    report.figures["messages for each operator"] = len(push.of(browsers[0]))
    report.figures["MiB of memory at rest"] = round(before / 1024)
    report.figures["MiB more at most"] = round(grown / 1024)
    return report


async def _report(url: str, count: int, percent: int) -> None:
    """All in one, until it is acknowledged."""
    states = [
        {"provider": "load", "model": "m", "userId": f"user-{n}"}
        | {"tokensUsed": percent, "tokenLimit": 100}
        for n in range(count)
    ]
    body, connection, status = json.dumps(states).encode(), Connection(), 0
    async with asyncio.timeout(PATIENCE):
        while status != 200:
            if status:
                await asyncio.sleep(1.0)
            with contextlib.suppress(Cut, TimeoutError):
                status = (await connection.post(url + UPDATE, body)).status
    connection.abort()


async def _all_told(box: Outbox, count: int, percent: int) -> bool:
    """Every alert has begun, or ended, and the messages about it have gone."""
    sent = await box.value(
        "select count(*) from notification_history "
        "where alert_id is not null and status = 'sent' and transition = $1",
        "firing" if percent > 50 else "resolved",
    )
    return bool(sent == count and await box.closed())


def _differs(
    push: PushService, browsers: list[Browser], own: Browser, told: str, count: int, seconds: float
) -> list[str]:
    """What is wrong with the messages of a storm: one, or where ringing all took longer than a
    message waits for more, one for each such time."""
    faults = []
    most = 1 + int(seconds / LINGER_AT_MOST.total_seconds())
    for browser in browsers:
        titles = [a.message["title"] for a in push.of(browser) if told in a.message["title"]]
        numbers = [int(title.split()[0].replace(",", "")) for title in titles]
        if sum(numbers) != count or len(numbers) > most:
            faults.append(f"an operator was told {titles} within {seconds:.0f} s")
    state = "resolved" if told == "resolved" else "firing"
    if sum(arrival.message["state"] == state for arrival in push.of(own)) != 1:
        faults.append(f"{OWN} was told {[a.message['title'] for a in push.of(own)]}")
    return faults


def _memory(pid: int, what: str) -> int:
    """KiB: VmRSS of now, VmHWM at most so far."""
    found = re.search(rf"^{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found is not None
    return int(found[1])
