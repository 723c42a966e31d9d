"""Lets connections in, no more than there is room for.

Accepting here rather than in the event loop's server makes every connection count from its first
moment, also while it still negotiates TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import socket
import ssl
from collections import deque
from collections.abc import Callable

from aiohttp import StreamReader
from aiohttp.http_parser import RawRequestMessage

from quotabell.http.connection import Connection
from quotabell.http.guests import AT_ONCE, PLACES, Full, Guests

HANDSHAKE = 10.0  # seconds for TLS to be negotiated
FAREWELL = 2.0  # seconds for TLS to be ended
_CHECK_EVERY = 1.0
_LOOK_EVERY = 0.1  # seconds between two looks at all connections for those that idle, if few do
_EMPTY_EVERY = 0.05  # seconds between two looks at those who have not left
_AT_ONCE = 64  # accepted before other work gets its turn
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PAUSE = 0.1  # seconds without accepting, when the system has no descriptor left
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n"
    b"Connection: close\r\n\r\n"
)


def room(wanted: int) -> int:
    """How many connections there may be beside the guests: a quarter of the process's
    descriptors, at least, is left to the database, to what is sent, and to files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else max(1, min(wanted, soft * 3 // 4 - PLACES))


class Door:
    """Accepts on a listening socket. ``tls`` gives what new connections are secured with.

    When ``room`` connections are open, the one that has idled longest makes place; when all are
    busy, a new one is a guest: unless it asks for a probe or a scrape, it is told to come back
    and closed. So are more guests than there are places for, before they ask.
    """

    def __init__(
        self,
        sock: socket.socket,
        make: Callable[[Callable[[Connection], None]], Connection],
        tls: ssl.SSLContext | None,
        room: int,
    ) -> None:
        self._sock = sock
        self._make = make
        self._tls = tls
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._open: dict[Connection, None] = {}
        self._entering: set[asyncio.Task[None]] = set()
        self._leaving: set[Connection] = set()
        self._guests = Guests()
        self._check: asyncio.TimerHandle | None = None
        self._listening = False
        self._idle: deque[tuple[float, Connection]] = deque()  # longest first, as last looked
        self._next_look = 0.0

    def __len__(self) -> int:
        """How many are in, or about to be."""
        return len(self._open) + len(self._entering)

    def open(self) -> None:
        self._listening = True
        self._loop.add_reader(self._sock, self._accept)
        self._check = self._loop.call_later(_CHECK_EVERY, self._check_all)

    def shut(self) -> None:
        """Let nobody in any more; those who are in stay."""
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._sock)

    async def empty(self, patience: float) -> None:
        """Wait, ``patience`` seconds at most, until all have left.

        Who has idled for that long is not waited for: it is no more likely to ask something
        within a moment than after the wait.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while len(self):
                    now = self._loop.time()
                    for connection in list(self._open):
                        if connection.idles_for(now) >= patience:
                            connection.force_close()
                    await asyncio.sleep(_EMPTY_EVERY)

    def close(self) -> None:
        """Shut it, and drop whoever is still there."""
        self.shut()
        if self._check is not None:
            self._check.cancel()
        for task in self._entering:
            task.cancel()
        for connection in list(self._open):
            connection.drop()

    def _accept(self) -> None:
        guests = 0
        for _ in range(_AT_ONCE):
            try:
                sock, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self._evict()
                    self._rest()
                return
            sock.setblocking(False)
            if self._make_place():
                self._let_in(sock)
                continue
            self._let_in_as_guest(sock)
            guests += 1
            if guests == AT_ONCE:
                return

    def _make_place(self) -> bool:
        """Whether there is place for one more that may ask anything."""
        taken = len(self) - len(self._leaving) - len(self._guests)
        return taken < self._room or self._evict()

    def _let_in(self, sock: socket.socket) -> tuple[Connection, asyncio.Task[None]]:
        connection = self._make(self._left)
        task = self._loop.create_task(self._enter(sock, connection))
        self._entering.add(task)
        task.add_done_callback(self._entering.discard)
        return connection, task

    def _let_in_as_guest(self, sock: socket.socket) -> None:
        try:
            leaving = self._guests.make_place()
        except Full:
            self._refuse(sock)
            return
        if leaving is not None and leaving in self._open:
            self._leaving.add(leaving)
            leaving.drop()
        connection, task = self._let_in(sock)
        connection.judge = self._judge
        self._guests.add(connection, task)

    def _judge(self, guest: Connection, message: RawRequestMessage, body: StreamReader) -> bool:
        """Whether the guest may ask this, as a guest or since there is place for it by now."""
        if self._guests.may(message, body):
            return True
        if guest not in self._guests or not self._make_place():
            return False
        self._guests.discard(guest)
        guest.judge = None
        return True

    def _rest(self) -> None:
        self._loop.remove_reader(self._sock)
        self._loop.call_later(_PAUSE, self._resume)

    def _resume(self) -> None:
        if self._listening:
            self._loop.add_reader(self._sock, self._accept)

    async def _enter(self, sock: socket.socket, connection: Connection) -> None:
        bounds = (
            {"ssl_handshake_timeout": HANDSHAKE, "ssl_shutdown_timeout": FAREWELL}
            if self._tls is not None
            else {}
        )
        try:
            await self._loop.connect_accepted_socket(
                lambda: connection, sock, ssl=self._tls, **bounds
            )
        except OSError:  # of TLS too: no client of this daemon
            pass
        if connection.connected:
            self._open[connection] = None
        else:
            self._guests.discard(connection)

    def _left(self, connection: Connection) -> None:
        self._open.pop(connection, None)
        self._leaving.discard(connection)
        self._guests.discard(connection)

    def _evict(self) -> bool:
        """Close the connection that has idled longest; False if none idles."""
        if not self._idle and self._loop.time() >= self._next_look:
            found = [(c.idle_since, c) for c in self._open if c.idle and self._holds_place(c)]
            # A look costs what there are; it may come as soon as it pays.
            self._next_look = self._loop.time() + _LOOK_EVERY * (1 - len(found) / self._room)
            self._idle.extend(sorted(found, key=lambda since_whom: since_whom[0]))
        while self._idle:
            since, oldest = self._idle.popleft()
            if oldest in self._open and oldest.idle and oldest.idle_since == since:
                self._leaving.add(oldest)
                oldest.drop()
                return True
        return False

    def _holds_place(self, connection: Connection) -> bool:
        return connection not in self._leaving and connection not in self._guests

    def _refuse(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._tls is None:
                sock.send(_FULL)
                sock.shutdown(socket.SHUT_WR)
        sock.close()

    def _check_all(self) -> None:
        now = self._loop.time()
        for connection in list(self._open):
            connection.check(now)
        self._check = self._loop.call_later(_CHECK_EVERY, self._check_all)
