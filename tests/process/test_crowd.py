"""Crowds that hold connections, idle or in any other state that a client can hold one in.

`python -m tests.drills crowd` is the form with 10,000 of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from tests.drills.idle import idle
from tests.support import daemon
from tests.support.postgres import Database

OF_EACH = 100
STATES = (
    b"",
    b"GET /-/healthy HTTP/1.1\r\nHost: local",
    b"POST /api/token-monitor/update HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n{",
    b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 4,  # whose answers nobody reads
)


async def test_a_stop_waits_for_no_crowd(database: Database, tmp_path: Path) -> None:
    path = daemon.write_config(tmp_path, database.dsn)
    async with daemon.process(path) as process, _crowd(process.url):
        assert await process.end(timeout=60.0) == 0


async def test_others_are_answered_while_a_crowd_idles(database: Database, tmp_path: Path) -> None:
    report = await idle(database, tmp_path, count=300)

    assert report.faults == []


@contextlib.asynccontextmanager
async def _crowd(url: str) -> AsyncIterator[None]:
    loop, there = asyncio.get_running_loop(), []
    address = ("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        for _ in range(OF_EACH):
            for state in STATES:
                sock = socket.socket()
                there.append(sock)
                sock.setblocking(False)
                await loop.sock_connect(sock, address)
                await loop.sock_sendall(sock, state)
        yield
    finally:
        for sock in there:
            sock.close()
