"""Reading a request's body: bounded as sent and again after decompression."""

from __future__ import annotations

import asyncio
import mmap
import zlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import hdrs, web
from aiohttp.http_exceptions import PayloadEncodingError

from quotabell.aside import undisturbed
from quotabell.errors import Malformed, TooLarge, UnsupportedType
from quotabell.formats.json_reader import Body
from quotabell.http.bodies import BODIES, Share

OFF_LOOP_FROM = 256 * 1024  # bytes; larger bodies are decoded in a thread
_PIECE = 64 * 1024  # bytes that are decompressed at once
_ENCODINGS = ("gzip", "x-gzip", "deflate")

T = TypeVar("T")


async def read(request: web.Request, limit: int) -> Body:
    """The body, decompressed, at most ``limit`` bytes.

    Raises TooLarge, UnsupportedType (an encoding other than gzip and deflate), Malformed (not
    what its Content-Encoding says) or Unavailable (too many large bodies at once).
    """
    if request.content_length is not None and request.content_length > limit:
        raise TooLarge(_too_large(limit))
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower() or "identity"
    if encoding != "identity" and encoding not in _ENCODINGS:
        raise UnsupportedType(f"Content-Encoding {encoding[:50]!r}; gzip and deflate are read")
    if encoding == "identity" and request.content_length:
        if request.content_length < OFF_LOOP_FROM:
            return await _received(request.read())
    return await _shared(request, encoding, limit)


async def _shared(request: web.Request, encoding: str, limit: int) -> Body:
    """A body that may be large, with a share of the room for these for as long as it is there."""
    unpacked = 0 if encoding == "identity" else limit
    shares: list[Share] = []

    async def share(size: int) -> None:
        if not shares:
            shares.append(await request.app[BODIES].share(size))

    try:
        if (request.content_length or 0) >= OFF_LOOP_FROM:
            await share((request.content_length or 0) + unpacked)
        sent = await _received(_chunks(request, limit, lambda: share(limit + unpacked)))
        found = await _unpacked(sent.filled(), encoding, limit, share) if unpacked else sent
    except BaseException:
        for held in shares:
            held.shrink(0)
        raise
    for held in shares:
        held.shrink(found.size)
        found.kept_for(held)
    return found.filled()


async def _unpacked(
    sent: Body, encoding: str, limit: int, share: Callable[[int], Awaitable[None]]
) -> _Room:
    inflater = _Inflater(sent, encoding, limit)
    if not inflater.advance(OFF_LOOP_FROM):
        await share(limit)
        await asyncio.to_thread(inflater.advance, limit + 1)
    return inflater.plain


async def _received(reading: Awaitable[T]) -> T:
    try:
        return await reading
    except (web.RequestPayloadError, PayloadEncodingError):
        raise Malformed("the body does not arrive as its headers say") from None


async def decoded(body: Body, decode: Callable[[Body], T]) -> T:
    """What ``decode`` makes of the body, off the event loop where the body is large."""
    if len(body) < OFF_LOOP_FROM:
        return decode(body)
    return await asyncio.to_thread(undisturbed, lambda: decode(body))


def expect_json(request: web.Request) -> None:
    """UnsupportedType for a declared type that is not JSON; none declared is taken as JSON."""
    declared = request.headers.get(hdrs.CONTENT_TYPE)
    if declared is None:
        return
    kind = declared.partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedType(f"Content-Type {kind[:80]!r}; send application/json")


async def _chunks(
    request: web.Request, limit: int, on_large: Callable[[], Awaitable[None]]
) -> _Room:
    """A body that is large, or whose length was not declared, piece by piece.

    `Request.read` puts as many pieces together as there are, which takes too long at once.
    """
    room = _Room(limit)
    async for chunk in request.content.iter_any():
        if room.size + len(chunk) > OFF_LOOP_FROM:
            await on_large()
        room.add(chunk)
    return room


class _Room:
    """Where a body is put together, never more than ``limit`` bytes.

    A bytes object of 30 MB would be copied as it grows, and once more at its end, each time in
    one step of 5 to 30 ms. Of this memory the system gives a page when it is written to.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._small = bytearray()
        self._pages: mmap.mmap | None = None
        self.size = 0

    def add(self, piece: bytes) -> None:
        """Raises TooLarge."""
        end = self.size + len(piece)
        if end > self._limit:
            raise TooLarge(_too_large(self._limit))
        if self._pages is None and end > OFF_LOOP_FROM:
            self._pages = mmap.mmap(-1, self._limit, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self._pages[: self.size] = bytes(self._small)
        if self._pages is None:
            self._small += piece
        else:
            self._pages[self.size : end] = piece
        self.size = end

    def kept_for(self, share: Share) -> None:
        """Give a share back when what was added is gone."""
        if self._pages is None:
            share.shrink(0)
        else:
            share.give_back_with(self._pages)

    def filled(self) -> Body:
        """What was added."""
        if self._pages is None:
            return bytes(self._small)
        return memoryview(self._pages)[: self.size].toreadonly()


class _Inflater:
    """Decompresses a body in bounded steps into ``plain``, never more than ``limit`` bytes.

    Some senders of deflate leave out the zlib header that RFC 9110 §8.4.1.2 asks for. Only
    one member of gzip is read: what would be left out must not be acknowledged.
    """

    def __init__(self, body: Body, encoding: str, limit: int) -> None:
        self.plain = _Room(limit)
        self._encoding = encoding
        self._body = body
        self._at = 0  # up to where it has been given to the stream
        bits = 31 if encoding != "deflate" else 15 if _has_zlib_header(body) else -15
        self._stream = zlib.decompressobj(bits)

    def advance(self, room: int) -> bool:
        """Decompress up to ``room`` bytes more; whether the end is reached."""
        until = self.plain.size + room
        while not self._stream.eof and self.plain.size < until:
            given = self._stream.unconsumed_tail or self._given()
            try:
                piece = self._stream.decompress(given, min(_PIECE, until - self.plain.size))
            except zlib.error:
                raise Malformed(
                    f"the body is not {self._encoding}, as its Content-Encoding says"
                ) from None
            self.plain.add(piece)
            if not given and not piece and not self._stream.eof:
                raise Malformed(f"the {self._encoding} body ends early")
        if self._stream.eof and (self._stream.unused_data or self._at < len(self._body)):
            raise Malformed(f"something follows the {self._encoding} body")
        return self._stream.eof

    def _given(self) -> bytes:
        """The next piece of what was sent."""
        start, self._at = self._at, min(self._at + _PIECE, len(self._body))
        return bytes(self._body[start : self._at])


def _has_zlib_header(body: Body) -> bool:
    return len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0


def _too_large(limit: int) -> str:
    return f"the body is larger than {limit} bytes (ingest.max_body)"
