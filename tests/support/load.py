"""HTTP load that knows what became of every request.

Plain HTTP/1.1 over sockets: a client library would open connections again and repeat requests
by itself, which is what tests about lost requests must not miss.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

UPDATE = "/api/token-monitor/update"
LIMIT = 1_000_000_000


class Refused(Exception):
    """No connection could be made, so nothing was sent."""


class Cut(Exception):
    """The connection ended after something was sent and before the whole answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """One connection that is kept alive; made on first use, and anew once an answer closes it."""

    def __init__(self, token: str = "", timeout: float = 15.0) -> None:
        self._authorization = f"Authorization: Bearer {token}\r\n" if token else ""
        self._timeout = timeout
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, url: str, body: bytes, *, close: bool = False) -> Answer:
        """Post JSON; raises Refused or Cut, and TimeoutError without an answer in time.

        ``close``: say that this is the last request of the connection.
        """
        parts = urlsplit(url)
        last = "Connection: close\r\n" if close else ""
        head = (
            f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{self._authorization}{last}"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        async with asyncio.timeout(self._timeout):
            reader, writer = await self._open(parts.hostname or "", parts.port or 80)
            try:
                writer.write(head.encode() + body)
                answer = await _read(reader)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.abort()
                raise Cut(repr(error)) from error
            except BaseException:
                self.abort()
                raise
        if answer.headers.get("connection", "").lower() == "close":
            self.abort()
        return answer

    async def open(self, url: str) -> None:
        """Connect without sending anything; raises Refused."""
        parts = urlsplit(url)
        async with asyncio.timeout(self._timeout):
            await self._open(parts.hostname or "", parts.port or 80)

    async def ended(self) -> None:
        """Wait until the other side closes an idle connection; Cut if it resets it."""
        assert self._streams is not None
        try:
            async with asyncio.timeout(self._timeout):
                assert await self._streams[0].read() == b""
        except OSError as error:
            raise Cut(repr(error)) from error
        finally:
            self.abort()

    async def _open(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None:
            if not self._streams[0].at_eof():
                return self._streams
            self.abort()
        try:
            self._streams = await asyncio.open_connection(host, port)
        except OSError as error:
            raise Refused(repr(error)) from error
        return self._streams

    def abort(self) -> None:
        """Drop the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _read(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(first.split()[1]), headers, body)


def snapshot(model: str, used: int, **more: Any) -> bytes:
    """A report of the provider ``load``."""
    report = {"provider": "load", "model": model, "tokensUsed": used, "tokenLimit": LIMIT}
    return json.dumps(report | more).encode()


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
    count: int = 24
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
    sent: int = 0
    acknowledged: set[int] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0  # seconds to any answer

    async def run(self, stop: asyncio.Event) -> None:
        connection = Connection(self.token)
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            self.sent += 1
            begun = loop.time()
            try:
                answer = await connection.post(self.url() + UPDATE, snapshot(self.model, self.sent))
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
    """``count`` climbers at once."""

    def __init__(self, url: Callable[[], str], count: int, token: str = "") -> None:
        self.all = [Climber(url, f"model-{n}", token) for n in range(count)]
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


def steady_port() -> int:
    """A free port of 127.0.0.1 that stays free between two runs of a server.

    Not one that the kernel gives to outgoing connections: a client that tries a closed port of
    that range again and again gets it as its own at last, and is connected to itself.
    """
    range_file = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(range_file.read_text().split()[0]) if range_file.exists() else 32768
    for _ in range(100):
        port = random.randrange(max(1024, first - 15_000), first)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port found")
