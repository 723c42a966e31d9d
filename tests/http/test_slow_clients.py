"""Clients that send or read too slowly, or hold connections: bounded, and nobody else waits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from quotabell.http import connection, door, listener
from quotabell.http.guests import PLACES
from tests.http.client import UPDATE, Client, raw, serving, snapshot
from tests.support.daemon import configure
from tests.support.postgres import Database
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOM = 16
HEALTHY = "/-/healthy"
HEAD = f"POST {UPDATE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
ASK = f"GET {HEALTHY} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hasty(
    shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    """A daemon that waits for nobody for long, with room for few."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"HEAD": 0.5, "WINDOW": 0.6, "CLOSING": 0.3}.items():
            patch.setattr(connection, name, value)
        patch.setattr(door, "_CHECK_EVERY", 0.05)
        folder = tmp_path_factory.mktemp("hasty")
        config = configure(folder, shared_database.dsn, max_connections=ROOM)
        async with serving(config) as client:
            yield client


@contextlib.asynccontextmanager
async def connected(
    client: Client, count: int = 1, receive: int | None = None
) -> AsyncIterator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """Connections; ``receive``: with a small buffer for what they do not read."""
    host, _, port = client.url.removeprefix("http://").partition(":")
    loop, opened = asyncio.get_running_loop(), []
    try:
        for _ in range(count):
            sock = socket.socket()
            sock.setblocking(False)
            if receive is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            await loop.sock_connect(sock, (host, int(port)))
            opened.append(await asyncio.open_connection(sock=sock, limit=1024))
        yield opened
    finally:
        for _, writer in opened:
            writer.close()


async def _told(reader: asyncio.StreamReader) -> bytes:
    """All that comes until the daemon closes, as it must."""
    told = b""
    async with asyncio.timeout(20):
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1024):
                told += piece
    return told


async def _trickle(writer: asyncio.StreamWriter, text: bytes, stop: asyncio.Event) -> None:
    with contextlib.suppress(ConnectionError):
        while not stop.is_set():
            writer.write(text)
            await writer.drain()
            await asyncio.sleep(0.05)


# --- slow to send ----------------------------------------------------------------------------


async def test_a_head_that_comes_in_drops_has_a_deadline(hasty: Client) -> None:
    async with connected(hasty) as [(reader, writer)]:
        stop = asyncio.Event()
        writer.write(b"GET / HTTP/1.1\r\n")
        trickling = asyncio.create_task(_trickle(writer, b"X-A: b\r\n", stop))
        told = await _told(reader)
        stop.set()
        await trickling

    assert told.startswith(b"HTTP/1.1 408 ")


async def test_the_deadline_counts_from_the_first_byte_of_each_head(hasty: Client) -> None:
    """A connection may be old, and idle for longer than a head may take."""
    async with connected(hasty) as [(reader, writer)]:
        for _ in range(2):
            writer.write(ASK)
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len("Quotabell is healthy.\n"))
            await asyncio.sleep(2 * connection.HEAD)


@pytest.mark.parametrize("framing", ["Content-Length: 1000\r\n", "Transfer-Encoding: chunked\r\n"])
async def test_a_body_that_comes_in_drops_is_told_so(hasty: Client, framing: str) -> None:
    async with connected(hasty) as [(reader, writer)]:
        stop = asyncio.Event()
        writer.write((HEAD + framing + "\r\n").encode())
        trickling = asyncio.create_task(_trickle(writer, b"1\r\n \r\n", stop))
        told = await _told(reader)
        stop.set()
        await trickling

    assert told.startswith(b"HTTP/1.1 408 ")
    assert b"application/problem+json" in told


async def test_an_extension_of_a_chunk_that_never_ends_is_no_body(hasty: Client) -> None:
    """The parser keeps none of it, so that no bound on size meets it (RFC 9112 §7.1.1)."""
    async with connected(hasty) as [(reader, writer)]:
        stop = asyncio.Event()
        writer.write((HEAD + "Transfer-Encoding: chunked\r\n\r\n2;a=").encode())
        trickling = asyncio.create_task(_trickle(writer, b"x" * 8_192, stop))
        told = await _told(reader)
        stop.set()
        await trickling

    assert told.startswith(b"HTTP/1.1 408 ")


async def test_a_long_extension_of_a_chunk_is_read_past_and_takes_no_memory(
    hasty: Client,
) -> None:
    size, piece = 100_000, 10_000
    before, after = HEAD + "Transfer-Encoding: chunked\r\n\r\n2;a=", "\r\n{}\r\n0\r\n\r\n"
    async with connected(hasty) as [(reader, writer)]:
        writer.write(before.replace("Host", "Connection: close\r\nHost").encode())
        tracemalloc.start()
        try:
            for _ in range(0, size, piece):
                writer.write(b"x" * piece)
                await writer.drain()
                await asyncio.sleep(0.01)
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        writer.write(after.encode())
        told = await _told(reader)

    assert kept < size
    assert told.startswith(b"HTTP/1.1 422 ")  # {} is the body, and no report


async def test_a_body_that_keeps_the_rate_may_take_long(hasty: Client) -> None:
    piece, count = b" " * 2048, 12

    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield piece
            await asyncio.sleep(0.15)  # in all three times as long as a window
        yield b"{}"

    found = await hasty.post(UPDATE, data=slowly(), headers={"Content-Type": "application/json"})

    found.problem(422)


# --- slow to read ----------------------------------------------------------------------------


async def test_a_client_that_reads_no_answer_is_cut_off(hasty: Client) -> None:
    """Its connection would hold the answer, and a place, for ever."""
    for part in range(3):
        many = [snapshot(model=f"unread-{part}-{n:04}" + "x" * 150) for n in range(2_000)]
        assert (await hasty.update(many)).status == 200
    ask = b"GET /metrics?collect[]=usage HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with connected(hasty, receive=4096) as [(_, writer)]:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(ask * 8)
        sock = writer.get_extra_info("socket")
        async with asyncio.timeout(20):
            while not sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == _CLOSED:  # noqa: ASYNC110
                await asyncio.sleep(0.05)


_CLOSED = b"\x07"  # TCP_CLOSE in <netinet/tcp.h>: reset by the peer


# --- idle ------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [ASK, b""])
async def test_a_connection_that_idles_is_closed(
    hasty: Client, asked: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "IDLE", 0.3)
    async with connected(hasty) as [(reader, writer)]:
        writer.write(asked)
        told = await _told(reader)

    assert told.count(b"HTTP/1.1 200 ") == bool(asked)


async def test_a_stop_waits_only_for_connections_that_were_busy_a_moment_ago(
    shared_database: Database, tmp_path: Path
) -> None:
    config = configure(tmp_path, shared_database.dsn)
    async with contextlib.AsyncExitStack() as daemon:
        client = await daemon.enter_async_context(serving(config))
        async with connected(client, 2) as [idle, busy]:
            await asyncio.sleep(1.2 * listener.LINGERING)
            busy[1].write(ASK)
            await busy[0].readuntil(b"healthy.\n")
            stopping = asyncio.create_task(daemon.aclose())
            assert await _told(idle[0]) == b""
            busy[1].write(ASK)
            told = await _told(busy[0])
        await stopping

    assert b" 200 " in told
    assert b"Connection: close" in told


# --- many ------------------------------------------------------------------------------------


async def test_the_connection_that_idled_longest_makes_room(hasty: Client) -> None:
    async with connected(hasty, ROOM) as idle:
        for reader, writer in idle[1:]:
            writer.write(ASK)
            await reader.readuntil(b"healthy.\n")
        async with connected(hasty) as [(reader, writer)]:
            writer.write(ASK)
            assert b" 200 " in await reader.readline()
        assert await _told(idle[0][0]) == b""


async def test_a_crowd_of_idle_connections_shuts_nobody_out(hasty: Client) -> None:
    async with connected(hasty, 10 * ROOM) as crowd:
        ends = [asyncio.ensure_future(_told(reader)) for reader, _ in crowd]
        await eventually(lambda: sum(end.done() for end in ends) >= 9 * ROOM - PLACES)
        for _ in range(20):
            status, _ = await raw(
                hasty.url, ASK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
            )
            assert status == 200
        for end in ends:
            end.cancel()


async def test_when_all_are_busy_a_new_one_is_told_to_come_back(hasty: Client) -> None:
    async with connected(hasty, ROOM) as busy:
        for _, writer in busy:
            writer.write((HEAD + "Content-Length: 1000\r\n\r\n").encode())
        status = 200
        async with asyncio.timeout(20):
            while status != 503:
                status, told = await raw(
                    hasty.url, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
                )
        assert b"Retry-After: 1\r\n" in told


@pytest.mark.parametrize(
    ("descriptors", "wanted", "found"),
    [(1024, 4096, 752), (65_536, 4096, 4096), (20_000, 16, 16), (-1, 4096, 4096)],
)
async def test_descriptors_are_left_for_the_database_and_pushes(
    descriptors: int, wanted: int, found: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door.resource, "getrlimit", lambda _: (descriptors, descriptors))

    assert door.room(wanted) == found


# --- what is no request ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_text",
    [
        HEAD + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        HEAD + "Content-Length: +2\r\n\r\n{}",
        HEAD + "Content-Length: 2, 2\r\n\r\n{}",
        HEAD + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        HEAD + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        HEAD + "Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        HEAD + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\n\r\n",
        HEAD + "X: a\r\n  folded\r\n\r\n",
        HEAD + "X: a\x00b\r\n\r\n",
        "GET / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\x00" * 200 + "\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "\x00\xff\r\n\r\n",
    ],
)
async def test_what_is_no_clear_request_is_refused_and_its_connection_closed(
    hasty: Client, request_text: str
) -> None:
    """Nothing after it is taken for a request, as somebody in between may have understood it."""
    smuggled = f"GET {HEALTHY} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    status, told = await raw(hasty.url, (request_text + smuggled).encode("latin-1"))

    assert status in (400, 408)
    assert b"is healthy." not in told


@pytest.mark.parametrize(
    ("head", "wanted"),
    [
        ("GET /?" + "x" * 10_000 + " HTTP/1.1\r\nHost: localhost\r\n", 414),
        (HEAD + "Authorization: Bearer " + "x" * 20_000 + "\r\n", 431),
        (HEAD + "x" * 20_000 + ": a\r\n", 431),
        (HEAD + "".join(f"X-{n}: 1\r\n" for n in range(1_000)), 431),
    ],
)
async def test_a_head_that_is_too_large_is_told_so_and_not_repeated(
    hasty: Client, head: str, wanted: int
) -> None:
    status, told = await raw(hasty.url, (head + "\r\n" + ASK.decode()).encode())

    assert status == wanted
    assert b"xxx" not in told
    assert b"is healthy." not in told


async def test_requests_in_one_piece_are_answered_in_order(hasty: Client) -> None:
    ask = ASK.replace(HEALTHY.encode(), b"/nowhere")
    last = ASK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    _, told = await raw(hasty.url, ask * 100 + last)

    assert told.count(b"HTTP/1.1 404 ") == 100
    assert told.endswith(b"Quotabell is healthy.\n")


async def test_http_1_0_is_answered_and_closed(hasty: Client) -> None:
    status, told = await raw(
        hasty.url, f"GET {HEALTHY} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode()
    )

    assert status == 200
    assert told.endswith(b"Quotabell is healthy.\n")
