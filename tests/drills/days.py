"""Days and months of periods in minutes: daemon and Postgres by a clock that goes in leaps.

The oracle is who reports: what was used in each period, and what must have rung for it.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from zoneinfo import ZoneInfo

import aiohttp

from tests.drills.almanac import DAY, WINDOWS, Almanac, Use, moments, quotas
from tests.drills.bell import subscribe
from tests.drills.clock import Clock
from tests.drills.ledger import Ledger
from tests.drills.outage import resident
from tests.drills.report import Report
from tests.process.program import quotabell_run
from tests.support import daemon
from tests.support.daemon import DaemonProcess
from tests.support.load import steady_port
from tests.support.outbox import Outbox, outbox
from tests.support.postgres import DEBIAN_15, Cluster, Database, embedded_18
from tests.support.pushservice import PushService
from tests.support.waiting import eventually

ZONES = ("Europe/Berlin", "America/New_York")
LEAP_YEAR = date(2027, 2, 25)  # 400 days from here on have a 29th of February
SUBJECTS = 2  # of each quota
AMOUNTS = {  # tokens of a report; a period gets so many that some rise over a threshold
    "hour": (5, 40, 85, 120),
    "block": (5, 40, 85, 120),
    "day": (5, 20, 45, 60),
    "week": (1, 2, 5, 9),
    "month": (1, 1, 2, 3),
}
KEPT = {"events": 40, "samples": 60, "periods": 100, "history": 50}  # days
MOST_FAULTS = 30  # that are told: some show after every leap
PATIENCE = 300.0  # seconds for what follows a leap, of a machine that does much else
LATE = 0.2  # how often there is something of the period before, and of days ago
_EVENTS = "/api/token-monitor/events"
_PROBED = """
    select exists (
        select from pg_stat_activity
        where query like 'select clock_timestamp(), %' and state = 'idle' and query_start > $1)"""
_ROUND = "select expires_at from leases where name = 'evaluate' and expires_at > now()"


async def days(folder: Path, *, first: date, length: int, zone: str, seed: int) -> Report:
    """Live through so many days from ``first`` on; compare the books after every leap."""
    leaps = list(moments(first, length, ZoneInfo(zone)))
    with _at(leaps[0] - timedelta(minutes=5)) as (clock, database):
        async with PushService(clock=lambda: clock.now().timestamp()) as push:
            config = daemon.write_config(
                folder,
                database.dsn,
                listen=f"127.0.0.1:{steady_port()}",
                push={"trusted_origins": [push.origin]},
                quotas=quotas(ZoneInfo(zone)),
                retention={name: f"{kept}d" for name, kept in KEPT.items()},
                alerts={"evaluate_every": "50ms"},
            )
            async with (
                daemon.process(config, clock.environment, module="tests.drills.hurried") as process,
                outbox(database.dsn) as box,
            ):
                await subscribe(process.url, push, 0)
                almanac = Almanac(ZoneInfo(zone))
                ledger = Ledger(box, almanac, KEPT)
                life = _Life(clock, process, almanac, ledger, box, random.Random(seed), leaps[0])
                try:
                    await life.live(leaps)
                    return await life.report(config, push)
                except AssertionError as error:
                    log = process.log_file.read_text()[-3000:]
                    faults = [*ledger.faults[:MOST_FAULTS], f"{clock.now()}: {error}", log]
                    return Report(faults, {"leaps": life.leaps})


@contextlib.contextmanager
def _at(began: datetime) -> Iterator[tuple[Clock, Database]]:
    """A server that goes by a clock of its own, and an empty database."""
    with tempfile.TemporaryDirectory(prefix="qb-clock-") as folder:
        Path(folder).chmod(0o755)  # the server may have another user
        clock = Clock(Path(folder) / "clock")
        clock.set(began)
        settings = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        program = embedded_18() or DEBIAN_15
        cluster = Cluster("days", program, settings, environment=clock.environment)
        try:
            cluster.start()
            yield clock, cluster.create_database()
        finally:
            cluster.stop()


@dataclass(slots=True)
class _Life:
    clock: Clock
    process: DaemonProcess
    almanac: Almanac
    ledger: Ledger
    box: Outbox
    chance: random.Random
    began: datetime
    memory: int = 0  # bytes that the daemon held when a fifth of the time was over
    slowest: float = 0.0  # seconds of a leap with all that follows
    leaps: int = 0
    reported: int = 0  # events

    async def live(self, leaps: list[datetime]) -> None:
        async with aiohttp.ClientSession(self.process.url) as session:
            for number, at in enumerate(leaps):
                began = time.monotonic()
                self.clock.set(at)
                await eventually(self._probed, timeout=PATIENCE)
                await self.rounds()
                await self.ledger.shown(self.clock.now())
                await self._report(session, at)
                await eventually(self.box.closed, timeout=PATIENCE)
                await self.ledger.compare(self.clock.now())
                self.slowest = max(self.slowest, time.monotonic() - began)
                self.leaps += 1
                if number == len(leaps) // 2:
                    self.ledger.halfway()
                if number == len(leaps) // 5:
                    self.memory = resident(self.process.pid)

    async def rounds(self, count: int = 2) -> None:
        """Wait for as many ends of rounds by the present time: one round has begun by it."""
        for _ in range(count):
            last = await self.box.value("select max(expires_at) from leases")
            await eventually(partial(self._renewed, last), timeout=PATIENCE)

    async def _probed(self) -> bool:
        """Whether the daemon has asked for the time since: it carries on what it knew before."""
        return bool(await self.box.value(_PROBED, self.clock.now() - timedelta(seconds=30)))

    async def _renewed(self, last: datetime) -> bool:
        found = await self.box.value(_ROUND)
        return found is not None and found > last

    async def _report(self, session: aiohttp.ClientSession, at: datetime) -> None:
        now = self.clock.now()
        uses = list(self._uses(at, now))
        body = [
            {
                "id": f"call-{self.reported + number}",
                "time": use.at.isoformat(),
                "provider": "openai",
                "model": "gpt-5",
                "userId": use.user,
                "inputTokens": use.tokens,
            }
            for number, use in enumerate(uses)
        ]
        self.reported += len(uses)
        async with session.post(_EVENTS, json=body) as answer:
            said = await answer.json()
        if answer.status != 200 or said["accepted"] != len(uses):
            self.ledger.faults.append(f"{at}: answered with {answer.status}: {said}"[:500])
        self.almanac.report(uses, now)

    def _uses(self, at: datetime, now: datetime) -> Iterator[Use]:
        for quota, number in itertools.product(WINDOWS, range(SUBJECTS)):
            user = f"{quota}-{number}"
            start = self.almanac.state(user, now).start
            amounts = AMOUNTS[quota]
            # The moment at which a period begins is its first, and the one before is not.
            began = now - start < timedelta(seconds=30)
            yield Use(user, self.chance.choice(amounts), start if began else now)
            if self.chance.random() < LATE:
                yield Use(user, 90, start - timedelta(milliseconds=1))
            if self.chance.random() < LATE / 4:
                yield Use(user, self.chance.choice(amounts), now - timedelta(days=4, hours=1))

    async def report(self, config: Path, push: PushService) -> Report:
        """After a sleep beyond the partitions made ahead: the whole books, and the figures."""
        self.clock.set(self.clock.now() + timedelta(days=10))
        await self.rounds()
        await eventually(self.ledger.moved, timeout=PATIENCE)
        await eventually(self.box.closed, timeout=PATIENCE)
        await self.ledger.compare(self.clock.now())
        await self.ledger.close(self.clock.now())
        report = Report(self.ledger.faults[:MOST_FAULTS])
        checked = await quotabell_run(
            *("recount", "--check", "--config", config),
            environment=self.clock.environment,
            timeout=600,
        )
        if self.clock.now() - self.began > 2 * max(KEPT.values()) * DAY:
            report.faults += self.ledger.grown()
        if checked.code != 0 or "not compared" in checked.out or checked.err:
            report.faults.append(f"recount --check: {checked}")
        self._heard(push, report)
        log = self.process.log_file.read_text()
        warnings = [line for line in log.splitlines() if "level=warning" in line]
        if self.process.process is None or self.process.process.returncode is not None:
            report.faults.append("the daemon has ended")
        if "level=error" in log:
            report.faults.append("the daemon logged an error")
        report.figures |= {
            "leaps": self.leaps,
            "events reported": self.reported,
            "periods used": len(self.almanac.used),
            "rings": sum(self.almanac.rings.values()),
            "slowest leap, seconds": round(self.slowest, 1),
            "warnings": len(warnings),
            "first warnings": warnings[:3],
            "MiB after a fifth and at the end": [
                round(held / (1 << 20), 1) for held in (self.memory, resident(self.process.pid))
            ],
            **self.ledger.figures,
        }
        return report

    def _heard(self, push: PushService, report: Report) -> None:
        taken = [arrival for arrival in push.arrivals if arrival.status == 201]
        if len(taken) != self.ledger.sent:
            report.faults.append(f"{len(taken)} messages arrived, {self.ledger.sent} were sent")
        report.figures |= {
            "messages": len(taken),
            "messages refused": len(push.arrivals) - len(taken),
            "wrong with messages": sorted(set(push.problems)),
        }
