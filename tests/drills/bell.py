"""SIGKILL at the worst moments of delivery, under load: nothing is lost, and every possible
duplicate is known.

The oracle is the push service's own log. A report that was acknowledged and crosses must arrive
at each browser; more than once only as often as an attempt is marked `unknown`.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from quotabell.service.faults import POINTS
from tests.drills.report import Report
from tests.http.client import UPDATE
from tests.support import daemon
from tests.support.load import LIMIT, Connection, Cut, Refused, snapshot, steady_port
from tests.support.outbox import Outbox, outbox
from tests.support.postgres import Database
from tests.support.push_browser import Browser
from tests.support.pushservice import PushService
from tests.support.waiting import eventually

USER = "alice"
BROWSERS = 3  # two of the user, one of an operator
RINGERS = 4
PAUSE = 0.02  # seconds between the reports of a ringer
# How often a point is passed before the one that kills, at most. So many alerts share messages, of
# which there are few.
PASSES = {"after_claim": 3, "before_send": 4, "after_send": 4, "in_round": 40}


@dataclass(slots=True)
class Ringers:
    """Report a crossing of another model again and again, each until it is acknowledged."""

    url: Callable[[], str]
    crossed: set[str] = field(default_factory=set)  # models whose report was acknowledged
    outcomes: Counter[str] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Stopped at the end, when each has got its acknowledgement."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._run(f"model-{n}", stop)) for n in range(RINGERS)]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def _run(self, name: str, stop: asyncio.Event) -> None:
        connection = Connection()
        number = 0
        while not stop.is_set():
            number += 1
            model = f"{name}-{number}"
            body = snapshot(model, LIMIT * 95 // 100, userId=USER)
            while model not in self.crossed:
                try:
                    answer = await connection.post(self.url() + UPDATE, body)
                except (Refused, Cut, TimeoutError) as error:
                    self.outcomes[type(error).__name__] += 1
                    await asyncio.sleep(0.05)
                    continue
                self.outcomes[str(answer.status)] += 1
                if answer.status == 200:
                    self.crossed.add(model)
            await asyncio.sleep(PAUSE)
        connection.abort()


async def bell(database: Database, folder: Path, *, times: int, seed: int) -> Report:
    """Kill at each point ``times`` times, in a random order; then compare the books."""
    report = Report()
    chance = random.Random(seed)
    points = list(POINTS) * times
    chance.shuffle(points)
    async with PushService() as push:
        config = daemon.write_config(
            folder,
            database.dsn,
            listen=f"127.0.0.1:{steady_port()}",
            push={"trusted_origins": [push.origin]},
            alerts={"evaluate_every": "100ms"},
        )
        async with daemon.process(config) as process, outbox(database.dsn) as box:
            browsers = [await subscribe(process.url, push, n) for n in range(BROWSERS)]
            await process.end()
            ringers = Ringers(lambda: process.url)
            async with ringers.at_work():
                for point in points:
                    passes = chance.randint(1, PASSES[point])
                    await die_at(process, point, passes, report)
                process.environment = {}
                await process.start()
            begun = time.monotonic()
            await eventually(box.closed, timeout=60, every=0.1)
            report.figures["seconds to deliver what was left"] = round(time.monotonic() - begun, 1)
            await audit(box, push, browsers, ringers, report)
    report.figures["crossings"] = len(ringers.crossed)
    report.figures["reports"] = dict(ringers.outcomes)
    return report


async def subscribe(
    url: str, push: PushService, number: int, token: str = "", user: str = USER
) -> Browser:
    """A browser of an operator (``number`` 0) or else of the user."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with aiohttp.ClientSession(url, headers=headers) as session:
        async with session.get("/api/push/vapid-public-key") as answer:
            browser = push.subscribe((await answer.json())["publicKey"])
        body = {"userId": user if number else "", "subscription": browser.subscription}
        async with session.post("/api/push/subscribe", json=body) as answer:
            assert (await answer.json())["active"]
    return browser


async def die_at(process: daemon.DaemonProcess, point: str, passes: int, report: Report) -> None:
    """Start the daemon and wait until the point killed it."""
    said = process.log_file.stat().st_size
    process.environment = {"QUOTABELL_CRASH_AT": f"{point}:{passes}"}
    with contextlib.suppress(AssertionError):  # it may die before it is ready
        await process.start()
    assert process.process is not None
    async with asyncio.timeout(300):  # as few sends as there are, on a busy machine
        code = await process.process.wait()
    text = process.log_file.read_bytes()[said:].decode()
    reached = report.figures.setdefault("killed", Counter())
    if code == -9 and f"crash point {point} reached" in text:
        reached[point] += 1
    else:
        report.faults.append(f"{point} was not reached: exit {code}, {text[-500:]}")


async def audit(
    box: Outbox, push: PushService, browsers: list[Browser], ringers: Ringers, report: Report
) -> None:
    """Each crossing has arrived at each browser."""
    notifications = await box.value("select count(*) from notification_history")
    alone = not await box.value("select exists (select from digests)")
    enqueued = notifications * len(browsers) if alone else None
    wanted = [(browser.token, model) for model in ringers.crossed for browser in browsers]
    await compare(box, push, wanted, report, enqueued)


async def compare(
    box: Outbox,
    push: PushService,
    wanted: Iterable[tuple[str, str]],
    report: Report,
    enqueued: int | None = None,
) -> None:
    """What arrived beside the books; ``wanted``: by the browser's token, the model.

    ``enqueued``: how many deliveries there must be, if that is known.
    """
    report.faults += push.problems
    report.faults += await box.books(enqueued=enqueued)
    arrived: Counter[tuple[str, str]] = Counter(
        (arrival.token, arrival.message["model"]) for arrival in push.arrivals
    )
    unknown: dict[tuple[str, str], int] = defaultdict(int)
    for row in await box.rows(
        "select substring(s.subscription ->> 'endpoint' from '[^/]+$') as token, "
        "h.data ->> 'model' as model, d.status, "
        "(select count(*) from attempts a where a.delivery_id = d.id and a.outcome = 'unknown') "
        "as unknown from deliveries d join push_subscriptions s on s.id = d.target::uuid "
        "join notification_history h on h.id = d.notification_id"
    ):
        unknown[row["token"], row["model"]] += row["unknown"]
        if row["status"] != "sent":
            report.faults.append(f"{row['model']}: a delivery is {row['status']}")
    # Messages about many name no model: their members have arrived where they were sent.
    within = {
        (row["token"], row["model"])
        for row in await box.rows(
            "select substring(s.subscription ->> 'endpoint' from '[^/]+$') as token, "
            "h.data ->> 'model' as model from digest_members m "
            "join deliveries d on d.notification_id = m.digest "
            "join push_subscriptions s on s.id = d.target::uuid "
            "join notification_history h on h.id = m.notification "
            "where d.status = 'sent' and not m.superseded"
        )
    }
    again = 0
    for row in await box.rows(
        "select substring(s.subscription ->> 'endpoint' from '[^/]+$') as token, count(*) as n, "
        "sum((select count(*) from attempts a where a.delivery_id = d.id "
        "and a.outcome = 'unknown')) as unknown "
        "from digests g join deliveries d on d.notification_id = g.id "
        "join push_subscriptions s on s.id = d.target::uuid where d.status = 'sent' group by 1"
    ):
        count, most = arrived.pop((row["token"], ""), 0), row["n"] + row["unknown"]
        again += count - row["n"]
        if not row["n"] <= count <= most:
            report.faults.append(f"{count} messages about many arrived, not {row['n']} to {most}")
    lost = []
    for token, model in wanted:
        arrived[token, model] += (token, model) in within
        if not arrived[token, model]:
            lost.append(model)
    if lost:
        report.faults.append(f"{len(lost)} crossings were lost for a browser: {lost[:5]}…")
    for key, count in arrived.items():
        if count > 1 + unknown[key]:
            report.faults.append(f"{key[1]}: {count} arrivals with {unknown[key]} unknown attempts")
    report.figures["arrivals"] = arrived.total()
    again += sum(max(0, count - 1) for count in arrived.values())
    report.figures["arrived more than once"] = again
    report.figures["attempts of unknown outcome"] = sum(unknown.values())
