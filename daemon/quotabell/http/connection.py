"""One client's connection: how long it may take, and what it is doing.

aiohttp bounds the size of a head and how long a connection may idle, but not how slowly a head
or a body may come, nor how slowly an answer may be read.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from typing import Any

from aiohttp import StreamReader, web
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from quotabell.errors import QuotabellError

HEAD = 10.0  # seconds from the first byte of a request's head to its last
WINDOW = 20.0  # seconds over which a rate is measured
RATE = 1024  # bytes a second, of a body that arrives or an answer that is read
CLOSING = 5.0  # seconds for the last answer on a connection that ends
IDLE = 75.0  # seconds between two requests
_LINGERING = (
    2.0  # seconds that the rest of a refused body is thrown away, so that its answer arrives
)
_RESET = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds
_MAX_LINE = 8190
_MAX_FIELD = 16 * 1024
_MAX_FIELDS = 128
_TOO_MANY = "Too many headers received"  # aiohttp has no class for it
_TOO_SLOW = (
    b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"  # RFC 9110
)


Judge = Callable[["Connection", RawRequestMessage, StreamReader], bool]


class TooSlow(QuotabellError):
    """The body arrives too slowly."""


class _NoRoom(QuotabellError):
    """All connections are busy."""


class Pace:
    """Whether what moves keeps to RATE, window by window."""

    __slots__ = ("_bytes", "_since")

    def __init__(self) -> None:
        self._since = 0.0  # 0: nothing is to be moved
        self._bytes = 0

    def rest(self) -> None:
        """Nothing is to be moved at present."""
        self._since = 0.0

    def moved(self, size: int, now: float) -> bool:
        """So much more has moved; False if it was too little."""
        if not self._since:
            self._since, self._bytes = now, 0
        self._bytes += size
        if now - self._since < WINDOW:
            return True
        enough = self._bytes >= RATE * WINDOW
        self._since, self._bytes = now, 0
        return enough


class Connection(RequestHandler):
    """aiohttp's protocol of a server, watched: `check` is called about once a second.

    ``gone`` is called once, when the transport is closed.
    """

    __slots__ = (
        *("_gone", "_head_since", "_link", "_unread", "_closing_since"),
        *("_arriving", "_arrived", "_body", "_answer", "idle_since", "judge"),
    )

    def __init__(self, server: web.Server, gone: Callable[[Connection], None], log: Any) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            logger=log,
            auto_decompress=False,
            keepalive_timeout=IDLE,
            lingering_time=_LINGERING,
            max_line_size=_MAX_LINE,
            max_field_size=_MAX_FIELD,
            max_headers=_MAX_FIELDS,
        )
        self._gone = gone
        self._link: asyncio.Transport | None = None  # kept when aiohttp has let go of it
        self._head_since = 0.0  # 0: no head is under way
        self._arriving: StreamReader | None = None  # the body that was under way ...
        self._arrived = 0  # ... and so much of it, at the last check
        self._unread = 0  # bytes of answers, at the last check
        self._closing_since = 0.0
        self._body, self._answer = Pace(), Pace()
        self.idle_since = self._loop.time()  # since its last whole request, if idle
        self.judge: Judge | None = None  # of what is asked here, where not all may be

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._link = self.transport

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._link = None
        self._gone(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.judge is not None:
            self._let_judge(self.judge)
        waiter = self._waiter
        if waiter is None or waiter.done():
            self._head_since = 0.0
            self.idle_since = self._loop.time()
        elif not self._head_since:
            self._head_since = self._loop.time()

    def _let_judge(self, judge: Judge) -> None:
        """Have what may not be asked here refused, in its turn, and nothing after it answered."""
        for place, (message, body) in enumerate(self._messages):
            if self.judge is None or isinstance(message, _ErrInfo):
                return  # it may ask anything by now, or nothing
            if not judge(self, message, body):
                refused = _ErrInfo(status=503, exc=_NoRoom(), message="")
                self._messages[place] = refused, EMPTY_PAYLOAD
                return

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what never becomes a request; the connection is closed after it."""
        refused = _refused(exc)
        if refused is None:
            return super().handle_error(request, status, exc, message)
        answer = web.Response(status=refused[0], text=refused[1])
        if refused[0] == 503:
            answer.headers["Retry-After"] = "1"
        answer.force_close()
        return answer

    @property
    def connected(self) -> bool:
        """Whether its transport is not closed yet."""
        return self._link is not None

    @property
    def idle(self) -> bool:
        """Whether it waits for a request, whole or in part, and has none to answer."""
        waiter = self._waiter
        return waiter is not None and not waiter.done()

    @property
    def hoards(self) -> bool:
        """Whether it asks on and on before it is answered, or does not read its answers."""
        return len(self._messages) > 1 or self.writing_paused

    def idles_for(self, now: float) -> float:
        """Seconds without a part of a request, and with none to answer."""
        return now - self.idle_since if self.idle and not self._head_since else 0.0

    def check(self, now: float) -> None:
        """Close it if it takes too long over anything."""
        link = self._link
        if link is None:
            return
        if link.is_closing():
            self._closing_since = self._closing_since or now
            if now - self._closing_since > CLOSING:
                self.drop()
            return
        if not self._reads(link, now):
            self.drop()
        elif self.idle:
            self._rest()
            if self._head_since and now - self._head_since > HEAD:
                link.write(_TOO_SLOW)
                self.force_close()
        else:
            self._check_body(now)

    def drop(self) -> None:
        """Close it at once. What its client did not read is thrown away, by the kernel too."""
        if self._link is not None:
            sock = self._link.get_extra_info("socket")
            if sock is not None:
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self._link.abort()

    def _reads(self, link: asyncio.Transport, now: float) -> bool:
        """Whether its client reads what it is sent."""
        before, self._unread = self._unread, link.get_write_buffer_size()
        if not self._unread or self._unread > before:
            self._answer.rest()
            return True
        return self._answer.moved(before - self._unread, now)

    def _rest(self) -> None:
        self._arriving = None
        self._body.rest()

    def _check_body(self, now: float) -> None:
        request = self._current_request
        body = request.content if request is not None else None
        # Paused by this side, which takes its time: not the client's fault.
        if body is None or body.is_eof() or self._reading_paused or self._upgraded:
            self._rest()
        elif not self._body.moved(self._more_of(body), now):
            body.set_exception(TooSlow())
            body.feed_eof()  # nothing more is awaited of it
            self.close()  # after the answer

    def _more_of(self, body: StreamReader) -> int:
        """Bytes of it since the last check. What wraps its chunks is none of it: the parser
        reads on and on past an extension that never ends."""
        before = self._arrived if body is self._arriving else 0
        self._arriving, self._arrived = body, body.total_bytes
        return body.total_bytes - before


def _refused(exc: BaseException | None) -> tuple[int, str] | None:
    """Status and words for a head that is too large or not for this connection; None: another.

    aiohttp would answer 400, and repeat a part of the line, which may be a secret.
    """
    if isinstance(exc, LineTooLong):
        if exc.args[1] == _MAX_LINE:
            return 414, f"The address is longer than {_MAX_LINE} bytes.\n"  # RFC 9110 §15.5.15
        return 431, f"A header field is longer than {_MAX_FIELD} bytes.\n"  # RFC 6585 §5
    if isinstance(exc, BadHttpMessage) and exc.message == _TOO_MANY:
        return 431, f"There are more than {_MAX_FIELDS} header fields.\n"
    if isinstance(exc, _NoRoom):
        return 503, "All connections are busy.\n"
    return None
