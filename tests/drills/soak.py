"""Hours in small: a steady mix of everything, and what the daemon holds grows no more.

Names are bounded (models, users, browsers), so all that grows with time is a leak: memory, file
descriptors, connections to the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from tests.drills.bell import USER, subscribe
from tests.drills.ground import rows
from tests.drills.outage import resident
from tests.drills.report import Report
from tests.support import daemon
from tests.support.load import LIMIT
from tests.support.postgres import Database
from tests.support.pushservice import PushService

SLOPE = 1.0  # MiB that may be gained in ten minutes
VARIES = 2  # descriptors and connections more or less
REPORTS = 20.0  # requests a second, of each way to report
PAGES = 5  # open ones, each of which asks every two seconds
BROWSERS = 3
MODELS = 40
SAMPLE_EVERY = 5.0  # seconds
_PAGE = (
    "/api/token-monitor/usage",
    "/api/token-monitor/alerts",
    "/api/token-monitor/sources",
    "/api/token-monitor/silences",
    "/api/push/history?limit=20",
    "/",
)
_CONNECTIONS = (
    "select count(*) as n from pg_stat_activity "
    "where datname = current_database() and application_name = 'quotabell'"
)
_UPDATE = "/api/token-monitor/update"
_EVENTS = "/api/token-monitor/events"
_TOKEN = "token-of-whoever-may-all"


@dataclass(slots=True)
class Holding:
    """What a process holds at one moment."""

    at: float  # seconds
    memory: int  # bytes
    descriptors: int
    connections: int  # to the database


@dataclass(slots=True)
class Life:
    """Clients of a daemon that never end."""

    url: str
    push: PushService
    chance: random.Random
    statuses: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    async def run(self) -> None:
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {_TOKEN}"}) as session,
            asyncio.TaskGroup() as group,
        ):
            ways: list[tuple[float, Callable[[aiohttp.ClientSession], Awaitable[Any]]]] = [
                (1 / REPORTS, self._snapshot),
                (1 / REPORTS, self._event),
                (0.5, self._batch),
                (0.5, self._crossing),
                (1.0, self._scrape),
                (1.0, self._nonsense),
                (1.0, self._leave),
                (5.0, self._browser),
                *[(2.0, self._page)] * PAGES,
            ]
            for every, act in ways:
                group.create_task(self._again(session, every, act))

    async def _again(
        self,
        session: aiohttp.ClientSession,
        every: float,
        act: Callable[[aiohttp.ClientSession], Awaitable[Any]],
    ) -> None:
        while True:
            await asyncio.sleep(self.chance.uniform(0.5, 1.5) * every)
            try:
                await act(session)
            except (aiohttp.ClientError, TimeoutError) as error:
                self.faults.append(f"{act.__name__}: {error!r}"[:300])

    async def _post(
        self, session: aiohttp.ClientSession, path: str, body: Any, wanted: int = 200
    ) -> None:
        async with session.post(self.url + path, json=body) as answer:
            self._note(path, answer.status, wanted, await answer.text())

    async def _get(self, session: aiohttp.ClientSession, path: str) -> None:
        async with session.get(self.url + path) as answer:
            self._note(path, answer.status, 200, await answer.text())

    def _note(self, path: str, status: int, wanted: int, text: str) -> None:
        self.statuses[str(status)] += 1
        if status != wanted:
            self.faults.append(f"{path}: {status} {text[:200]}")

    async def _snapshot(self, session: aiohttp.ClientSession) -> None:
        model = f"model-{self.chance.randrange(MODELS)}"
        used = self.chance.randrange(LIMIT // 2)
        body = {"provider": "load", "model": model, "tokensUsed": used, "tokenLimit": LIMIT}
        await self._post(session, _UPDATE, body)

    async def _crossing(self, session: aiohttp.ClientSession) -> None:
        """Some ring, others resolve."""
        percent = self.chance.choice((10, 85, 97, 120))
        model = f"ringing-{self.chance.randrange(MODELS)}"
        body = {"provider": "load", "model": model, "userId": USER}
        used = LIMIT * percent // 100
        await self._post(session, _UPDATE, body | {"tokensUsed": used, "tokenLimit": LIMIT})

    def _made(self) -> dict[str, Any]:
        return {
            "id": f"{self.chance.randrange(10**12)}",
            "time": datetime.now(UTC).isoformat(),
            "provider": "load",
            "model": f"model-{self.chance.randrange(MODELS)}",
            "userId": f"user-{self.chance.randrange(20)}",
            "inputTokens": self.chance.randrange(10_000),
            "outputTokens": self.chance.randrange(1_000),
        }

    async def _event(self, session: aiohttp.ClientSession) -> None:
        await self._post(session, _EVENTS, [self._made()])

    async def _batch(self, session: aiohttp.ClientSession) -> None:
        await self._post(session, _EVENTS, [self._made() for _ in range(200)])

    async def _scrape(self, session: aiohttp.ClientSession) -> None:
        await self._get(session, "/metrics")

    async def _page(self, session: aiohttp.ClientSession) -> None:
        for path in _PAGE:
            await self._get(session, path)

    async def _nonsense(self, session: aiohttp.ClientSession) -> None:
        await self._post(session, _UPDATE, {"provider": ""}, wanted=422)
        await self._post(session, f"/{self.chance.randrange(10**9)}", {}, wanted=404)

    async def _leave(self, session: aiohttp.ClientSession) -> None:
        """A client goes away in the midst of a request."""
        parts = self.url.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(parts[0], int(parts[1]))
        head = f"POST {_UPDATE} HTTP/1.1\r\nHost: {parts[0]}\r\nContent-Length: 1000\r\n\r\n{{"
        writer.write(head.encode())
        await writer.drain()
        writer.transport.abort()
        self.statuses["left"] += 1

    async def _browser(self, session: aiohttp.ClientSession) -> None:
        """One that comes and goes again."""
        browser = await subscribe(self.url, self.push, 1, _TOKEN)
        body = {"endpoint": browser.subscription["endpoint"]}
        await self._post(session, "/api/push/unsubscribe", body)


async def soak(
    database: Database, folder: Path, *, warm: float, length: float, seed: int
) -> Report:
    """``length`` seconds of life after ``warm`` ones, then the trend of what the daemon holds."""
    report = Report()
    tokens = [{"name": "ops", "token": _TOKEN, "scopes": ["admin"]}]
    async with PushService() as push:
        config = daemon.write_config(
            folder,
            database.dsn,
            auth={"tokens": tokens},
            push={"trusted_origins": [push.origin]},
            quotas=[{"name": "users", "limit": 10**12, "window": "hour", "per": ["user"]}],
        )
        async with daemon.process(config) as process:
            for number in range(BROWSERS):
                await subscribe(process.url, push, number, _TOKEN)
            life = Life(process.url, push, random.Random(seed))
            living = asyncio.create_task(life.run())
            try:
                await _pass(living, warm)
                held = await _watch(living, database, process.pid, length)
            finally:
                living.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await living
            log = process.log_file.read_text()
    report.faults += life.faults[:20] + push.problems[:5] + _judge(held, report)
    report.figures["answers"] = dict(life.statuses)
    report.figures["pushes"] = len(push.arrivals)
    report.figures["lines of log at error"] = sum("level=error" in line for line in log.split("\n"))
    return report


async def _pass(living: asyncio.Task[None], seconds: float) -> None:
    await asyncio.wait({living}, timeout=seconds)
    if living.done():
        living.result()


async def _watch(
    living: asyncio.Task[None], database: Database, pid: int, length: float
) -> list[Holding]:
    held: list[Holding] = []
    end = time.monotonic() + length
    while time.monotonic() < end or len(held) < 4:
        await _pass(living, min(SAMPLE_EVERY, length / 10))
        [row] = await rows(database, _CONNECTIONS)
        descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        held.append(Holding(time.monotonic(), resident(pid), descriptors, row["n"]))
    return held


def _judge(held: list[Holding], report: Report) -> list[str]:
    """A line through all of the memory; medians of the first and last fifth of the rest."""
    line = statistics.linear_regression([h.at for h in held], [h.memory / 2**20 for h in held])
    slope = line.slope * 600
    fifth = max(2, len(held) // 5)
    ends = held[:fifth], held[-fifth:]
    faults = []
    if slope > SLOPE:
        faults.append(f"memory grows by {slope:.2f} MiB in ten minutes")
    for name in ("descriptors", "connections"):
        first, last = (statistics.median(getattr(h, name) for h in end) for end in ends)
        report.figures[f"{name} at first and last"] = (first, last)
        if abs(last - first) > VARIES:
            faults.append(f"{name}: {first} at first, {last} at last")
    report.figures["memory (MiB), each fifth"] = [
        round(statistics.mean(h.memory for h in held[n : n + fifth]) / 2**20, 1)
        for n in range(0, fifth * 5, fifth)
    ]
    report.figures["memory gained in ten minutes (MiB)"] = round(slope, 2)
    return faults
