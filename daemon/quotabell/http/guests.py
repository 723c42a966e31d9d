"""Places for probes and scrapes while all others are taken.

Clients that keep every connection busy must not have an orchestrator kill a daemon that is well,
nor hide it from Prometheus. What a connection asks for is known with its first head, so some are
let in beyond the room for that alone.
"""

from __future__ import annotations

import asyncio

from aiohttp import StreamReader, hdrs
from aiohttp.http_parser import RawRequestMessage

from quotabell.http.connection import Connection

PLACES = 16
AT_ONCE = PLACES // 4  # that are let in before others are read from: who asks at once may stay
SCRAPES = (
    PLACES // 2
)  # that are answered at once: answers may be read slowly, probes have none such
_PROBES = frozenset({"/-/healthy", "/-/ready"})
_SCRAPE = "/metrics"
_READING = frozenset({hdrs.METH_GET, hdrs.METH_HEAD})


class Guests:
    """The connections beyond the room, those that came first being first."""

    def __init__(self) -> None:
        self._entering: dict[Connection, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._entering)

    def __contains__(self, connection: Connection) -> bool:
        return connection in self._entering

    def add(self, connection: Connection, entering: asyncio.Task[None]) -> None:
        self._entering[connection] = entering

    def discard(self, connection: Connection) -> None:
        """It has left, or is no guest any more."""
        self._entering.pop(connection, None)

    def make_place(self) -> Connection | None:
        """Who has to leave for another: whoever has waited longest without asking anything, or
        else takes more time over the answers than they do.

        None if nobody has to. Raises Full where all are being answered.
        """
        if len(self._entering) < PLACES:
            return None
        waiting = [c for c, entering in self._entering.items() if c.idle or not entering.done()]
        waiting = waiting or [connection for connection in self._entering if connection.hoards]
        if not waiting:
            raise Full
        longest = min(waiting, key=lambda connection: connection.idle_since)
        self._entering.pop(longest).cancel()  # if it still negotiates TLS
        return longest

    def may(self, message: RawRequestMessage, body: StreamReader) -> bool:
        """Whether this is what guests are let in for."""
        path = message.path.partition("?")[0]
        if message.method not in _READING or message.upgrade or not body.is_eof():
            return False
        if path == _SCRAPE:
            busy = (guest.connected and not guest.idle for guest in self._entering)
            return sum(busy) <= SCRAPES  # who still negotiates TLS asks nothing
        return path in _PROBES


class Full(Exception):
    """There is no place for another guest."""
