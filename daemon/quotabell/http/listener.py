"""The listening socket, and a stop that answers every request that has reached it."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import select
import socket
import ssl
import struct

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from quotabell.errors import QuotabellError
from quotabell.http.connection import Connection
from quotabell.http.door import Door
from quotabell.http.routing import Draining

BACKLOG = 1024
ACCEPTING = 0.3  # seconds that new connections are still taken after the stop was asked for
LINGERING = 2.0  # seconds from its last request that an idle connection has for one more
_HANDSHAKE = 0.1  # seconds for handshakes under way to end
_SO_ATTACH_FILTER = 26  # <asm-generic/socket.h>
_IGNORE_HANDSHAKES = (
    # Classic BPF (struct sock_filter: code, jump if true, jump if false, k), run over a segment
    # from its TCP header on. A new connection's first segment has SYN without ACK.
    (0x30, 0, 0, 13),  # load the byte of the flags
    (0x54, 0, 0, 0x12),  # keep ACK and SYN
    (0x15, 0, 1, 0x02),  # SYN alone: go on, else skip one
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)


class CannotListen(QuotabellError):
    """The address to listen on cannot be used."""


def address(host: str, port: int, *, secure: bool = False) -> str:
    """The URL of this daemon, by the machine's name where it listens on all of its addresses."""
    host = socket.gethostname() if host in ("", "0.0.0.0", "::") else host
    scheme = "https" if secure else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def bind(host: str, port: int) -> socket.socket:
    """A bound TCP socket, not yet listening; raises CannotListen.

    An empty ``host`` means every interface, by IPv4 and, where the machine has it, IPv6.
    """
    both = not host and socket.has_dualstack_ipv6()
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            *(host or None, port, socket.AF_INET6 if both else socket.AF_UNSPEC),
            type=socket.SOCK_STREAM,
            flags=socket.AI_PASSIVE,
        )[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if both:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(address)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise CannotListen(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    sock.setblocking(False)
    return sock


class Listener:
    """Serves an application on a bound socket until drained."""

    def __init__(
        self,
        app: web.Application,
        sock: socket.socket,
        draining: Draining,
        *,
        room: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._sock = sock
        self._draining = draining
        self._runner = web.AppRunner(
            app, handle_signals=False, access_log=None, shutdown_timeout=1.0
        )
        self._room = room
        self._tls = tls
        self._door: Door | None = None

    @property
    def port(self) -> int:
        return int(self._sock.getsockname()[1])

    async def start(self) -> None:
        await self._runner.setup()
        server, log = self._runner.server, _logger()
        assert server is not None
        try:
            self._sock.listen(BACKLOG)
        except OSError as error:  # another process that was bound as well listened first
            raise CannotListen(f"cannot listen: {error.strerror or error}") from None
        self._door = Door(
            self._sock, lambda gone: Connection(server, gone, log), self._tls, self._room
        )
        self._door.open()

    async def drain(self) -> None:
        """Answer what has arrived, then close; no connection is reset on the way.

        Closing a listening socket resets what waits in its backlog. So new connections are
        taken a little longer, then the kernel is told to ignore requests for more, the backlog
        is accepted empty, and only then the socket is closed. Connections that are kept
        alive get `Connection: close` with their next answer, or are closed as they idle.
        """
        if self._door is None:
            return
        self._draining.on = True
        await asyncio.sleep(ACCEPTING)
        _ignore_handshakes(self._sock)
        await asyncio.sleep(_HANDSHAKE)
        await self._backlog_accepted()
        self._door.shut()
        self._sock.close()
        await self._door.empty(LINGERING)

    async def _backlog_accepted(self) -> None:
        """Wait, bounded, until no connection waits to be accepted."""
        waiting = select.poll()
        waiting.register(self._sock, select.POLLIN)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGERING):
                while waiting.poll(0):  # noqa: ASYNC110
                    await asyncio.sleep(0)  # once round the event loop
        await asyncio.sleep(0)  # the last one becomes known one round later

    async def close(self) -> None:
        if self._door is not None:
            self._door.shut()
        await self._runner.cleanup()
        if self._door is not None:
            self._door.close()
        self._sock.close()


def _logger() -> logging.Logger:
    logger = logging.getLogger("quotabell.http")
    logger.addFilter(_no_stranger_made_it)
    return logger


def _no_stranger_made_it(record: logging.LogRecord) -> bool:
    """Not a request that is no HTTP: with a traceback each, they would fill the log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


def _ignore_handshakes(sock: socket.socket) -> None:
    """Make the kernel drop requests for new connections (Linux; elsewhere nothing happens).

    The peers try again after a second and then find the socket closed. Handshakes under way
    are still completed.
    """
    code = b"".join(struct.pack("HBBI", *step) for step in _IGNORE_HANDSHAKES)
    steps = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(_IGNORE_HANDSHAKES), ctypes.addressof(steps))
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
