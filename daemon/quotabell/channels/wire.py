"""POST requests over the connections of a guarded session, for those who make very many.

aiohttp connects (names, guarded addresses, TLS, limits, reuse) and parses answers. What it does
beside that for each request (headers merged and checked, cookies, redirects, a task that writes
the body) takes longer than encrypting a message, and is not needed for requests that are alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import StreamReader
from yarl import URL

from quotabell.channels.guarded import read_answer

_ORIGINS: Final = 256  # whose settings are kept ready


class BadAnswer(aiohttp.ClientError):
    """Not HTTP."""


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes  # the beginning of it


class Bound:
    """``asyncio.timeout`` at a quarter of its cost: `lift` it in any case, and ask `broke`."""

    __slots__ = ("_before", "_fired", "_handle", "_task")

    def __init__(self, seconds: float) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._before = task.cancelling()
        self._fired = False
        self._handle = task.get_loop().call_later(seconds, self._fire)

    def _fire(self) -> None:
        self._fired = True
        self._task.cancel()

    def lift(self) -> None:
        self._handle.cancel()

    def broke(self) -> bool:
        """Whether a CancelledError means that the time is over, and nothing else."""
        return self._fired and self._task.uncancel() <= self._before


class _Incoming:
    """What ``read_answer`` reads."""

    __slots__ = ("_connection", "content")

    def __init__(self, content: StreamReader, connection: Connection) -> None:
        self.content = content
        self._connection = connection

    def close(self) -> None:
        self._connection.close()


class Wire:
    """Sends what is a whole request already. Takes its limits and timeouts from the session."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        assert session.connector is not None
        self._session = session
        self._connector = session.connector
        self._timeout = session.timeout
        self._where = lru_cache(_ORIGINS)(self._settings)

    async def post(self, origin: URL, head: bytes, body: bytes) -> Reply:
        """The answer to one request, which is not repeated.

        ``head``: request line and all headers with the empty line, of text that was checked.
        Raises aiohttp.ClientError or OSError, as a request of the session does.
        """
        connection = await self._connect(origin)
        try:
            protocol, transport = connection.protocol, connection.transport
            if protocol is None or transport is None or transport.is_closing():
                raise aiohttp.ClientConnectionResetError("the connection was closed")
            protocol.set_response_params(
                read_until_eof=True, auto_decompress=False, read_timeout=self._timeout.sock_read
            )
            transport.write(head + body)
            protocol.start_timeout()
            status, headers, content = await _head_of_answer(protocol)
            # In most cases it came with the head, and nothing is waited for.
            reply = Reply(status, headers, await read_answer(_Incoming(content, connection)))
        except BaseException:
            connection.close()
            raise
        connection.release()  # closes it if more was to come
        return reply

    async def _connect(self, origin: URL) -> Connection:
        try:
            return await self._connector.connect(self._where(origin), [], self._timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError("connecting took too long") from error

    def _settings(self, origin: URL) -> aiohttp.ClientRequest:
        """What the connector wants to know: host, port and TLS."""
        return aiohttp.ClientRequest(
            "POST", origin, loop=asyncio.get_running_loop(), session=self._session
        )


async def _head_of_answer(
    protocol: ResponseHandler,
) -> tuple[int, Mapping[str, str], StreamReader]:
    while True:
        try:
            message, content = await protocol.read()
        except HttpProcessingError as error:
            raise BadAnswer from error
        if not 100 <= message.code <= 199 or message.code == 101:
            return message.code, message.headers, content
