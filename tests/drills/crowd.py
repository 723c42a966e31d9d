"""Crowds of clients: in step with nobody, always new, or climbing one number at a time."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.support.load import UPDATE, Answer, Connection, Cut, Refused, snapshot


@dataclass(slots=True)
class OpenLoop:
    """Reports at a fixed rate, however slow the answers are; each under a model of its own.

    Taken in turn, ``connections`` are kept alive and every ``fresh_every``-th report comes on a
    new connection. If all are busy, another one is made.
    """

    url: str  # of the daemon
    rate: float  # a second
    name: str = "model"  # that the models' names begin with
    connections: int = 64
    fresh_every: int = 10
    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    closing: int = 0  # answers that closed a connection that was to be kept
    acknowledged: set[str] = field(default_factory=set)  # models
    refused: int = 0
    cut: list[str] = field(default_factory=list)

    async def run(self, stop: asyncio.Event) -> None:
        """Send until ``stop``, then wait for what is under way."""
        idle = deque(Connection() for _ in range(self.connections))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                while self.sent < (loop.time() - begun) * self.rate:
                    self.sent += 1
                    fresh = self.sent % self.fresh_every == 0 or not idle
                    connection = Connection() if fresh else idle.popleft()
                    group.create_task(self._report(connection, self.sent, None if fresh else idle))
                await asyncio.sleep(0.002)
        for connection in idle:
            connection.abort()

    async def _report(
        self, connection: Connection, number: int, idle: deque[Connection] | None
    ) -> None:
        model = f"{self.name}-{number}"
        try:
            answer = await connection.post(
                self.url + UPDATE, snapshot(model, number), close=idle is None
            )
        except Refused:
            self.refused += 1
        except (Cut, TimeoutError) as error:
            self.cut.append(f"{model}: {error!r}")
        else:
            self.statuses[answer.status] += 1
            told = answer.headers.get("connection", "").lower() == "close"
            self.closing += told and idle is not None
            if answer.status == 200:
                self.acknowledged.add(model)
        if idle is None:
            connection.abort()
        else:
            idle.append(connection)


@dataclass(slots=True)
class Newcomers:
    """Clients that come on a new connection for every report, one after the other."""

    url: str  # of the daemon
    name: str = "new"  # that the models' names begin with
    count: int = 64
    acknowledged: set[str] = field(default_factory=set)  # models
    refused: int = 0
    cut: list[str] = field(default_factory=list)

    async def run(self, stop: asyncio.Event) -> None:
        """Report until ``stop``."""
        await asyncio.gather(*(self._come(number, stop) for number in range(self.count)))

    async def _come(self, number: int, stop: asyncio.Event) -> None:
        reports = 0
        while not stop.is_set():
            reports += 1
            model = f"{self.name}-{number}-{reports}"
            connection = Connection()
            try:
                answer = await connection.post(
                    self.url + UPDATE, snapshot(model, reports), close=True
                )
            except Refused:
                self.refused += 1
                await asyncio.sleep(0.05)
            except (Cut, TimeoutError) as error:
                self.cut.append(f"{model}: {error!r}")
            else:
                if answer.status == 200:
                    self.acknowledged.add(model)
            finally:
                connection.abort()


@dataclass(slots=True)
class Climber:
    """Reports ever larger numbers of one model, one after the other."""

    url: Callable[[], str]  # of the daemon; it may change with a restart
    model: str
    token: str = ""
    pause: float = 0.1  # seconds after a failure
    timeout: float = 15.0  # seconds that an answer is waited for
    # Reports say when they were made, and are repeated until acknowledged.
    repeats: bool = False
    sent: int = 0
    acknowledged: set[int] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0  # seconds to any answer

    async def run(self, stop: asyncio.Event) -> None:
        connection = Connection(self.token, self.timeout)
        loop = asyncio.get_running_loop()
        body = b""
        while not stop.is_set():
            if not body or not self.repeats or self.sent in self.acknowledged:
                self.sent += 1
                body = snapshot(self.model, self.sent, **self._stamp())
            begun = loop.time()
            try:
                answer = await connection.post(self.url() + UPDATE, body)
            except (Refused, Cut, TimeoutError) as error:
                self._note(type(error).__name__)
                await asyncio.sleep(self.pause)
                continue
            self.slowest = max(self.slowest, loop.time() - begun)
            self._note(str(answer.status))
            if answer.status == 200:
                self._acknowledge(answer)
            else:
                self._check_refusal(answer)
                await asyncio.sleep(self.pause)
        connection.abort()

    def _stamp(self) -> dict[str, str]:
        return {"timestamp": datetime.now(UTC).isoformat()} if self.repeats else {}

    def _note(self, outcome: str) -> None:
        self.outcomes[outcome] += 1

    def _acknowledge(self, answer: Answer) -> None:
        self.acknowledged.add(self.sent)
        data = answer.json()["data"]
        if (data["tokensUsed"], data["applied"]) != (self.sent, True):
            self.faults.append(f"{self.model}: reported {self.sent}, answered {data}")

    def _check_refusal(self, answer: Answer) -> None:
        if answer.status != 503 or "retry-after" not in answer.headers:
            self.faults.append(f"{self.model}: {answer.status} {answer.body[:200]!r}")


class Climbers:
    """``count`` climbers at once; ``more``: what else is to be said of each `Climber`."""

    def __init__(self, url: Callable[[], str], count: int, token: str = "", **more: Any) -> None:
        self.all = [Climber(url, f"model-{n}", token, **more) for n in range(count)]
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def answers(self) -> int:
        return sum(len(climber.acknowledged) for climber in self.all)

    @property
    def outcomes(self) -> Counter[str]:
        return sum((climber.outcomes for climber in self.all), Counter[str]())

    @property
    def faults(self) -> list[str]:
        return [fault for climber in self.all for fault in climber.faults]

    async def __aenter__(self) -> Climbers:
        self._tasks = [asyncio.create_task(climber.run(self._stop)) for climber in self.all]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Let each finish its request."""
        self._stop.set()
        await asyncio.gather(*self._tasks)
