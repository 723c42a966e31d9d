"""Thousands of connections that idle: what each takes, and that others are answered meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from tests.drills.outage import resident
from tests.drills.report import Report
from tests.support import daemon
from tests.support.load import UPDATE, Connection, snapshot
from tests.support.postgres import Database

ASK = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n"
SPARE = 500  # descriptors of either side for all else
ASKED = 20  # times that others ask meanwhile
SETTLED = 1.0  # seconds until what was only passed through is given back
ENOUGH = 100.0  # KiB: far above what a connection takes, and below what a buffer for each would


async def idle(database: Database, folder: Path, *, count: int) -> Report:
    """Open ``count`` connections that ask for health once and are then kept alive."""
    report = Report()
    config = daemon.write_config(folder, database.dsn, max_connections=2 * count)
    # A quarter of its descriptors are not for connections.
    with _descriptors(count * 4 // 3 + SPARE):
        async with daemon.process(config) as process:
            await _others(process.url, report)
            before = resident(process.pid)
            async with _idling(process.url, count) as there:
                await _others(process.url, report)
                await asyncio.sleep(SETTLED)
                each = (resident(process.pid) - before) / 1024 / count
                closed = sum(map(_is_closed, there))
            if (code := await process.end()) != 0:
                report.faults.append(f"exit code {code}")
    if closed:
        report.faults.append(f"{closed} of {count} connections were closed")
    if each > ENOUGH:
        report.faults.append(f"a connection takes {each:.1f} KiB")
    report.figures |= {"connections": count, "KiB of memory each": round(each, 1)}
    return report


@contextlib.contextmanager
def _descriptors(wanted: int) -> Iterator[None]:
    """So many, at least, for this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), max(hard, wanted)))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, max(hard, wanted)))


@contextlib.asynccontextmanager
async def _idling(url: str, count: int) -> AsyncIterator[list[socket.socket]]:
    loop, parts = asyncio.get_running_loop(), urlsplit(url)
    there: list[socket.socket] = []
    try:
        for _ in range(count):
            sock = socket.socket()
            there.append(sock)
            sock.setblocking(False)
            async with asyncio.timeout(20):
                await loop.sock_connect(sock, (parts.hostname, parts.port))
                await loop.sock_sendall(sock, ASK)
                told = b""
                while not told.endswith(b"healthy.\n"):
                    told += (piece := await loop.sock_recv(sock, 4096))
                    assert piece, told
        yield there
    finally:
        for sock in there:
            sock.close()


def _is_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


async def _others(url: str, report: Report) -> None:
    """Health is told and reports are acknowledged."""
    client = Connection()
    async with aiohttp.ClientSession(url) as session:
        for number in range(ASKED):
            async with session.get("/-/healthy") as answer:
                if answer.status != 200:
                    report.faults.append(f"health: {answer.status}")
            stored = await client.post(url + UPDATE, snapshot("others", number))
            if stored.status != 200:
                report.faults.append(f"a report: {stored.status}")
    client.abort()
