"""Reading a request's body: bounded as sent and again after decompression."""

from __future__ import annotations

import asyncio
import gc
import zlib
from collections.abc import Callable
from typing import TypeVar

from aiohttp import hdrs, web
from aiohttp.http_exceptions import PayloadEncodingError

from quotabell.errors import Malformed, TooLarge, UnsupportedType

OFF_LOOP_FROM = 256 * 1024  # bytes; larger bodies are decoded in a thread
_ENCODINGS = ("gzip", "x-gzip", "deflate")

T = TypeVar("T")


async def read(request: web.Request, limit: int) -> bytes:
    """The body, decompressed, at most ``limit`` bytes.

    Raises TooLarge, UnsupportedType (an encoding other than gzip and deflate) or Malformed
    (not what its Content-Encoding says).
    """
    if request.content_length is not None and request.content_length > limit:
        raise TooLarge(_too_large(limit))
    try:
        small = request.content_length and request.content_length < OFF_LOOP_FROM
        body = await (request.read() if small else _chunks(request, limit))
    except (web.RequestPayloadError, PayloadEncodingError):
        raise Malformed("the body does not arrive as its headers say") from None
    encoding = request.headers.get(hdrs.CONTENT_ENCODING, "identity").strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in _ENCODINGS:
        raise UnsupportedType(f"Content-Encoding {encoding[:50]!r}; gzip and deflate are read")
    inflater = _Inflater(body, encoding, limit)
    if inflater.advance(OFF_LOOP_FROM):
        return inflater.plain
    await asyncio.to_thread(inflater.advance, limit + 1)
    return inflater.plain


async def decoded(body: bytes, decode: Callable[[bytes], T]) -> T:
    """What ``decode`` makes of the body, off the event loop where the body is large."""
    if len(body) < OFF_LOOP_FROM:
        return decode(body)
    return await asyncio.to_thread(_undisturbed, decode, body)


def _undisturbed(decode: Callable[[bytes], T], body: bytes) -> T:
    """Decode without looking for cycles meanwhile, of which decoders make none.

    Among the objects that a large body gives, that takes a tenth of a second and more, during
    which no other thread runs.
    """
    gc.disable()
    try:
        return decode(body)
    finally:
        gc.enable()


def expect_json(request: web.Request) -> None:
    """UnsupportedType for a declared type that is not JSON; none declared is taken as JSON."""
    declared = request.headers.get(hdrs.CONTENT_TYPE)
    if declared is None:
        return
    kind = declared.partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise UnsupportedType(f"Content-Type {kind[:80]!r}; send application/json")


async def _chunks(request: web.Request, limit: int) -> bytes:
    """A body that is large, or whose length was not declared, piece by piece.

    `Request.read` puts as many pieces together as there are, which takes too long at once.
    """
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limit:
            raise TooLarge(_too_large(limit))
    return bytes(body)


class _Inflater:
    """Decompresses a body in bounded steps into ``plain``, never more than ``limit`` bytes.

    Some senders of deflate leave out the zlib header that RFC 9110 §8.4.1.2 asks for. Only
    one member of gzip is read: what would be left out must not be acknowledged.
    """

    def __init__(self, body: bytes, encoding: str, limit: int) -> None:
        self.plain = b""
        self._encoding = encoding
        self._limit = limit
        self._rest = body
        bits = 31 if encoding != "deflate" else 15 if _has_zlib_header(body) else -15
        self._stream = zlib.decompressobj(bits)

    def advance(self, room: int) -> bool:
        """Decompress up to ``room`` bytes more; whether the end is reached."""
        try:
            piece = self._stream.decompress(self._rest, room)
        except zlib.error:
            raise Malformed(
                f"the body is not {self._encoding}, as its Content-Encoding says"
            ) from None
        self.plain += piece
        self._rest = self._stream.unconsumed_tail
        if len(self.plain) > self._limit:
            raise TooLarge(_too_large(self._limit))
        if self._stream.unused_data:
            raise Malformed(f"something follows the {self._encoding} body")
        if not self._stream.eof and len(piece) < room:
            raise Malformed(f"the {self._encoding} body ends early")
        return self._stream.eof


def _has_zlib_header(body: bytes) -> bool:
    return len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0


def _too_large(limit: int) -> str:
    return f"the body is larger than {limit} bytes (ingest.max_body)"
