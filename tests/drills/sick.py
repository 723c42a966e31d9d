"""One push service hangs: how much later the messages of another one arrive."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path

import aiohttp

from tests.drills.bell import USER, subscribe
from tests.drills.report import Report
from tests.http.client import UPDATE
from tests.support import daemon
from tests.support.load import LIMIT, snapshot
from tests.support.postgres import Database
from tests.support.pushservice import Answer, PushService

SICK = 10  # browsers at the service that hangs, for one at the other
CROSSINGS = 20  # for each time and phase; each is waited for


async def sick(database: Database, folder: Path, *, times: int, seed: int) -> Report:
    """Phases with and without the fault in turn, so that other load of the machine meets both."""
    report = Report()
    took: dict[bool, list[float]] = {False: [], True: []}
    async with PushService() as well, PushService() as ill:
        config = daemon.write_config(
            folder, database.dsn, push={"trusted_origins": [well.origin, ill.origin]}
        )
        async with daemon.process(config) as process:
            await subscribe(process.url, well, 1)
            for _ in range(SICK):
                await subscribe(process.url, ill, 1)
            async with aiohttp.ClientSession(process.url) as session:
                for phase in range(-1, 2 * times):  # the first warms up
                    hangs = phase % 2 == 1 and phase > 0
                    ill.always = Answer(fault="hang") if hangs else Answer()
                    for number in range(CROSSINGS):
                        body = snapshot(f"{phase}-{number}", LIMIT * 95 // 100, userId=USER)
                        told, began = len(well.arrivals) + 1, time.monotonic()
                        async with session.post(UPDATE, json=json.loads(body)) as answer:
                            assert answer.status == 200
                        arrivals = await well.wait(told)
                        if phase >= 0:
                            took[hangs].append(arrivals[told - 1].at - began)
        report.faults += well.problems + ill.problems
    p99 = {hangs: sorted(t)[int(len(t) * 0.99) - 1] for hangs, t in took.items()}
    median = {hangs: statistics.median(t) for hangs, t in took.items()}
    report.figures["ratio of the medians"] = round(median[True] / median[False], 2)
    report.figures["p99 of the sound service (ms)"] = round(p99[False] * 1e3, 1)
    report.figures["p99 while another hangs (ms)"] = round(p99[True] * 1e3, 1)
    report.figures["ratio, to be below 1.2"] = round(p99[True] / p99[False], 2)
    return report
