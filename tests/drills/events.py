"""SIGKILL of two daemons at random moments under usage events: each call counts once.

Whoever gets no answer sends the same again, perhaps to the other daemon. Calls are repeated by
others, corrected, late, and reported on both sides of midnight; quotas change meanwhile. The
oracle knows of every call who made it and its last correction.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from quotabell.domain.events import KINDS
from tests.drills.ground import rows
from tests.drills.report import Report
from tests.process.program import quotabell_run
from tests.support import daemon
from tests.support.daemon import DaemonProcess
from tests.support.load import Answer, Connection, Cut, Refused, steady_port
from tests.support.postgres import Database
from tests.support.waiting import eventually

PATH = "/api/token-monitor/events"
SENDERS = 10
BETWEEN = (0.0, 0.4)  # seconds of load between an answer and the kill
CALLS = 1_000  # that senders choose from at a time, so that they meet
FRESH = 4  # calls that take the place of others with every answer
KIND_NAMES = ("input", "cacheRead", "cacheWrite", "output", "reasoning", "other")
EVERYBODY = {"name": "all", "limit": 10**9, "window": "day"}
USERS = {"name": "users", "limit": 10**6, "window": "week", "per": ["user"]}
QUOTAS: tuple[Sequence[dict[str, Any]], ...] = (
    (EVERYBODY, USERS),
    (EVERYBODY, USERS | {"limit": 2 * 10**6}),
    (EVERYBODY, USERS | {"weights": {"cache_read": 0.1, "request": 7}}),
    (EVERYBODY | {"window": "5h"}, USERS | {"weights": {"cache_read": 0.1, "request": 7}}),
    (EVERYBODY | {"per": ["model"]}, USERS),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call; what is reported of it depends on nothing but its number and the correction."""

    number: int
    midnight: datetime

    @property
    def caller(self) -> dict[str, str]:
        return {
            "provider": "openai" if self.number % 3 else "anthropic",
            "model": f"model-{self.number % 4}",
            "userId": f"user-{self.number % 7}",
        }

    def kinds(self, correction: int) -> tuple[int, ...]:
        """Each correction is larger in all, and has some kinds smaller."""
        chance = random.Random(self.number * 1000 + correction)
        most = [chance.randrange(50) for _ in KINDS]
        return (*most[:-1], 300 * (correction + 1) - sum(most[:-1]))

    def report(self, correction: int) -> dict[str, Any]:
        values = zip(KIND_NAMES, self.kinds(correction), strict=True)
        return {
            "id": f"call-{self.number}",
            "time": self._time(correction).isoformat(),
            "costUsd": (correction + 1) / 8,
            **self.caller,
            **{f"{kind}Tokens": tokens for kind, tokens in values},
        }

    def _time(self, correction: int) -> datetime:
        if self.number % 5 == 0:  # reported on both sides of midnight
            return self.midnight + timedelta(minutes=20 if correction % 2 else -20)
        hours = (self.number % 11) ** 2 / 2 if self.number % 4 == 0 else 0.0  # late
        return datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(
            hours=hours, minutes=2
        )


@dataclass(slots=True)
class Senders:
    """Report calls, each request until it is acknowledged."""

    daemons: Sequence[DaemonProcess]
    seed: int
    midnight: datetime
    timeout: float = 15.0  # seconds that an answer is waited for
    last: dict[int, int] = field(default_factory=dict)  # correction acknowledged, by call
    outcomes: Counter[str] = field(default_factory=Counter)
    counted: Counter[str] = field(default_factory=Counter)  # what the answers said
    faults: list[str] = field(default_factory=list)
    answers: int = 0

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Stopped at the end, when each has got its acknowledgement."""
        stop = asyncio.Event()
        tasks = [asyncio.create_task(self._run(number, stop)) for number in range(SENDERS)]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    async def _run(self, sender: int, stop: asyncio.Event) -> None:
        chance = random.Random(f"{self.seed}-{sender}")
        ways = [[Connection(timeout=self.timeout) for _ in self.daemons] for _ in range(2)]
        while not stop.is_set():
            picked = [
                (
                    self.answers * FRESH + chance.randrange(CALLS),
                    min(3, int(chance.expovariate(1.0))),
                )
                for _ in range(chance.choice((1, 1, 5, 40)))
            ]
            # Not `last`: a sender may not know what others have sent.
            calls = [Call(number, self.midnight).report(c) for number, c in picked]
            body = json.dumps(calls).encode()
            twice = chance.random() < 0.1  # at the same time, as two workers of a queue would
            await asyncio.gather(
                *(self._until_taken(way, body, chance) for way in ways[: 1 + twice])
            )
            for number, correction in picked:
                self.last[number] = max(correction, self.last.get(number, 0))
        for connection in itertools.chain(*ways):
            connection.abort()

    async def _until_taken(self, way: list[Connection], body: bytes, chance: random.Random) -> None:
        while True:
            to = chance.randrange(len(self.daemons))
            try:
                answer = await way[to].post(self.daemons[to].url + PATH, body)
            except (Refused, Cut, TimeoutError) as error:
                self.outcomes[type(error).__name__] += 1
                await asyncio.sleep(0.05)
                continue
            self.outcomes[str(answer.status)] += 1
            if answer.status == 200:
                self._acknowledged(answer)
                return
            if answer.status != 503:
                self.faults.append(f"answered with {answer.status}: {answer.body[:200]!r}")
                return
            await asyncio.sleep(0.05)

    def _acknowledged(self, answer: Answer) -> None:
        self.answers += 1
        said = answer.json()
        if said.pop("rejected"):
            self.faults.append(f"rejected: {answer.body[:200]!r}")
        self.counted.update(said)


async def events(database: Database, folder: Path, *, times: int, seed: int) -> Report:
    """Kill one of two daemons ``times`` times, change quotas in between; then compare."""
    chance = random.Random(seed)
    report = Report()
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    configs = [
        daemon.write_config(
            folder / name,
            database.tcp_dsn,
            listen=f"127.0.0.1:{steady_port()}",
            quotas=list(QUOTAS[0]),
            alerts={"evaluate_every": "200ms"},
        )
        for name in ("one", "other")
    ]
    async with daemon.process(configs[0]) as one, daemon.process(configs[1]) as other:
        senders = Senders((one, other), seed, midnight - timedelta(days=1))
        async with senders.at_work():
            for number in range(times):
                victim = chance.choice((one, other))
                await _more(senders)
                _configure(configs, QUOTAS[number % len(QUOTAS)])
                chance.choice((one, other)).send(signal.SIGHUP)
                await asyncio.sleep(chance.uniform(*BETWEEN))
                await victim.end(signal.SIGKILL)
                await victim.start()
            await _more(senders)
        report.faults += senders.faults + await audit_events(database, senders)
        report.faults += await compare_counts(database, configs[0])
    report.figures |= {
        "kills": times,
        "acknowledged events": senders.counted.total(),
        "as": dict(senders.counted),
        "calls": len(senders.last),
        "outcomes": dict(senders.outcomes),
    }
    return report


def _configure(configs: Sequence[Path], quotas: Sequence[dict[str, Any]]) -> None:
    for config in configs:
        content = yaml.safe_load(config.read_text()) | {"quotas": list(quotas)}
        config.write_text(yaml.safe_dump(content))


async def _more(senders: Senders) -> None:
    before = senders.answers
    await eventually(lambda: senders.answers > before + SENDERS, timeout=30)


async def _ready(database: Database) -> bool:
    return not await rows(database, "select from quotas where phase <> 'ready'")


async def compare_counts(database: Database, config: Path) -> list[str]:
    """What ``recount --check`` has to say against the quota states."""
    # Answers by a daemon while it counts anew are right as well; here all is to be compared.
    await eventually(lambda: _ready(database), timeout=60, every=0.2)
    # It weighs every event of the drill.
    checked = await quotabell_run("recount", "--check", "--config", config, timeout=600)
    if checked.code != 0 or "not compared" in checked.out or checked.err:
        return [f"recount --check: {checked}"]
    return []


async def audit_events(database: Database, senders: Senders) -> list[str]:
    """What is wrong with the events and with the sums over them."""
    faults = []
    found: dict[int, list[tuple[int, ...]]] = {}
    for row in await rows(database, f"select event_id, {', '.join(KINDS)} from usage_events"):
        number = int(row["event_id"].removeprefix("call-"))
        found.setdefault(number, []).append(tuple(row[kind] for kind in KINDS))
    wanted = {
        number: [Call(number, senders.midnight).kinds(correction)]
        for number, correction in senders.last.items()
    }
    for number in sorted({*found, *wanted}):
        if found.get(number) != wanted.get(number):
            faults.append(
                f"call-{number}: {found.get(number)} is stored instead of {wanted.get(number)}"
            )
    columns = ", ".join(f"sum({kind})" for kind in (*KINDS, "cost_usd"))
    of = "user_id, provider, model"
    sums = await rows(
        database, f"select {of}, count(*), {columns} from usage_events group by {of} order by {of}"
    )
    totals = await rows(
        database,
        f"select {of}, requests, {', '.join(KINDS)}, cost_usd from token_totals order by {of}",
    )
    for summed, held in itertools.zip_longest(sums, totals):
        if tuple(summed or ()) != tuple(held or ()):
            faults.append(f"token_totals hold {held}, the events add up to {summed}")
    return faults[:20]
