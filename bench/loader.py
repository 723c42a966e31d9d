"""A small load generator for machines without wrk: ``python -m bench.loader ORDER``.

Prints the answers a second. One process, raw HTTP/1.1, one request at a time a connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import uvloop


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the whole answer to the last one is there."""

    def __init__(self, requests: Iterator[bytes], ended: asyncio.Future[None]) -> None:
        self._requests = requests
        self._ended = ended
        self._buffer = bytearray()
        self._wanted = 0  # length of the answer; 0: not known yet
        self._transport: asyncio.Transport | None = None
        self.answers = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._wanted and not self._begin():
            return
        if len(self._buffer) >= self._wanted:
            self.answers += 1
            self._buffer.clear()
            self._wanted = 0
            assert self._transport is not None
            self._transport.write(next(self._requests))

    def connection_lost(self, error: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(error or ConnectionError("closed by the server"))

    def _begin(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._buffer[:end]).lower()
        if not head.startswith(b"http/1.1 200"):
            if not self._ended.done():
                self._ended.set_exception(AssertionError(head[:100]))
            return False
        length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
        self._wanted = end + 4 + int(length)
        return True


async def run(order: dict[str, Any]) -> float:
    """Answers a second."""
    parts = urlsplit(order["url"])
    requests = itertools.cycle(_requests(order))
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    made = [
        await loop.create_connection(
            lambda: _Connection(requests, ended), parts.hostname, parts.port
        )
        for _ in range(order["connections"])
    ]
    before, begun = sum(protocol.answers for _, protocol in made), time.perf_counter()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(order["seconds"]):
            await ended
    rate = (sum(p.answers for _, p in made) - before) / (time.perf_counter() - begun)
    for transport, _ in made:
        transport.abort()
    return rate


def _requests(order: dict[str, Any]) -> list[bytes]:
    parts = urlsplit(order["url"])
    lines = [f"POST {parts.path} HTTP/1.1", f"Host: {parts.netloc}"]
    lines += [f"{name}: {value}" for name, value in order["headers"].items()]
    bodies = [Path(name).read_bytes() for name in order["bodies"]]
    return [
        "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
        for body in bodies
    ]


if __name__ == "__main__":
    print(uvloop.run(run(json.loads(sys.argv[1]))))
