"""Reports over connections that know what became of every request.

Plain HTTP/1.1 over sockets: a client library would open connections again and repeat requests
by itself, which is what tests about lost requests must not miss.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass
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
