"""While every connection is busy, probes and scrapes are answered, and nothing else is."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from aiohttp import web

from quotabell.http import guests
from quotabell.http.listener import Listener, bind
from quotabell.http.routing import Draining
from tests.http.client import STATUS, UPDATE, Client, raw, serving
from tests.support.certificates import Authority
from tests.support.daemon import configure
from tests.support.postgres import Database
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROOM = 16
PATHS = ("/-/healthy", "/metrics")
SLOW = f"POST {UPDATE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def daemon(
    shared_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    """With room for few, all of it taken by bodies that do not come."""
    folder = tmp_path_factory.mktemp("full")
    async with serving(configure(folder, shared_database.dsn, max_connections=ROOM)) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="module")
async def slow(daemon: Client) -> AsyncIterator[list[Pair]]:
    pairs = [await _connected(daemon) for _ in range(ROOM)]
    for _, writer in pairs:
        writer.write(SLOW.encode())

    async def all_are_read() -> bool:
        return await _asked(daemon, STATUS) == 503

    await eventually(all_are_read)
    yield pairs
    for _, writer in pairs:
        writer.close()


async def _connected(daemon: Client) -> Pair:
    host, _, port = daemon.url.removeprefix("http://").partition(":")
    return await asyncio.open_connection(host, int(port))


def _request(path: str, method: str = "GET", more: str = "Connection: close\r\n") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


async def _asked(daemon: Client, path: str, method: str = "GET") -> int:
    status, _ = await raw(daemon.url, _request(path, method))
    return status


async def test_probes_and_scrapes_are_answered_while_all_are_busy(
    daemon: Client, slow: list[Pair]
) -> None:
    for _ in range(2 * guests.PLACES):
        assert await _asked(daemon, "/-/healthy") == 200
    assert await _asked(daemon, "/-/ready", "HEAD") == 200
    assert await _asked(daemon, "/metrics?collect[]=health") == 200


@pytest.mark.parametrize(
    "request_text",
    [
        _request(STATUS, more=""),
        _request("/-/healthy-not", more=""),
        _request("/-/reload", "POST", more=""),
        _request("/-/healthy", more="Content-Length: 1000\r\n"),
        _request("/-/healthy", more="Transfer-Encoding: chunked\r\n") + b"3e8\r\n",
        _request("/-/healthy", more="Connection: upgrade\r\nUpgrade: websocket\r\n"),
        SLOW.encode(),
    ],
)
async def test_whoever_asks_something_else_is_told_to_come_back(
    daemon: Client, slow: list[Pair], request_text: bytes
) -> None:
    """At once, and whatever follows in the same piece is not answered."""
    status, told = await raw(daemon.url, request_text + _request("/-/healthy"))

    assert status == 503
    assert b"Retry-After: 1\r\n" in told
    assert told.count(b"HTTP/1.") == 1


async def test_answers_before_a_refusal_come_first(daemon: Client, slow: list[Pair]) -> None:
    ask = _request("/-/healthy", more="")
    _, told = await raw(daemon.url, ask + ask + _request(STATUS, more="") + ask)

    assert [part[:3] for part in told.split(b"HTTP/1.")[1:]] == [b"1 2", b"1 2", b"0 5"]


async def test_a_crowd_that_asks_nothing_is_bounded_and_keeps_no_probe_out(
    daemon: Client, slow: list[Pair]
) -> None:
    silent = [await _connected(daemon) for _ in range(5 * guests.PLACES)]
    assert await _asked(daemon, "/-/healthy") == 200

    def remaining() -> int:
        return sum(not reader.at_eof() and reader.exception() is None for reader, _ in silent)

    await eventually(lambda: remaining() <= guests.PLACES)
    assert remaining() > 0
    for _, writer in silent:
        writer.close()


async def _guest_beside_a_free_place(daemon: Client, slow: list[Pair]) -> Pair:
    """A guest that has asked for a probe, since when somebody has left."""
    reader, writer = await _connected(daemon)
    writer.write(_request("/-/healthy", more=""))
    assert b" 200 " in await reader.readuntil(b"healthy.\n")
    slow[0][1].close()
    await eventually(lambda: _free(daemon))
    return reader, writer


async def _free(daemon: Client) -> bool:
    return await _asked(daemon, STATUS) == 200


async def test_a_guest_has_the_first_place_that_becomes_free(
    daemon: Client, slow: list[Pair]
) -> None:
    reader, writer = await _guest_beside_a_free_place(daemon, slow)
    writer.write(_request(STATUS, more=""))
    assert b" 200 " in await reader.readuntil(b"}")
    await eventually(lambda: _free(daemon))  # who idles makes room: the guest is one no more
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""
    writer.close()


async def test_a_guest_that_has_a_place_by_now_may_ask_for_all_it_sent_at_once(
    daemon: Client, slow: list[Pair]
) -> None:
    reader, writer = await _guest_beside_a_free_place(daemon, slow)
    writer.write(_request(STATUS, more="") + _request(STATUS))
    told = await reader.read()
    writer.close()

    assert [part[:5] for part in told.split(b"HTTP/1.")[1:]] == [b"1 200", b"1 200"]


async def test_who_does_not_read_its_answers_keeps_no_probe_out() -> None:
    app = web.Application()
    app.router.add_get("/-/healthy", _well)
    app.router.add_get("/-/ready", _endless)
    async with contextlib.AsyncExitStack() as stack:
        listener = Listener(app, bind("127.0.0.1", 0), Draining(), room=1)
        stack.push_async_callback(listener.close)
        await listener.start()
        for _ in range(1 + guests.PLACES):
            reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            stack.callback(writer.close)
            writer.write(_request("/-/ready", more=""))
            await reader.readline()

        status, _ = await raw(f"http://127.0.0.1:{listener.port}", _request("/-/healthy"))
        assert status == 200


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with contextlib.suppress(ConnectionError):
        while True:
            await response.write(bytes(1 << 20))
    return response


# --- TLS -----------------------------------------------------------------------------------------


async def test_handshakes_that_never_end_keep_neither_probe_nor_scrape_out(tmp_path: Path) -> None:
    authority = Authority()
    authority.issue("localhost").write(tmp_path / "tls.crt", tmp_path / "tls.key")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    app = web.Application()
    for path in PATHS:
        app.router.add_get(path, _well)
    busy: list[web.Request] = []

    async def whole_body(request: web.Request) -> web.Response:
        busy.append(request)
        await request.read()
        return web.Response()

    app.router.add_post(UPDATE, whole_body)
    async with contextlib.AsyncExitStack() as stack:
        listener = Listener(app, bind("127.0.0.1", 0), Draining(), room=2, tls=tls)
        stack.push_async_callback(listener.close)
        await listener.start()
        for _ in range(2):
            _, writer = await _secured(listener, authority)
            stack.callback(writer.close)
            writer.write(SLOW.encode())
        await eventually(lambda: len(busy) == 2)
        for _ in range(2 * guests.PLACES):
            _, writer = await asyncio.open_connection("127.0.0.1", listener.port)
            stack.callback(writer.close)

        for path in PATHS:
            reader, writer = await _secured(listener, authority)
            stack.callback(writer.close)
            writer.write(_request(path))
            assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")


async def _secured(listener: Listener, authority: Authority) -> Pair:
    return await asyncio.open_connection("localhost", listener.port, ssl=authority.trust())


async def _well(request: web.Request) -> web.Response:
    return web.Response()
