"""Text in chunks, each compressed once for as long as it stays the same."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

_LEVEL = 1
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"  # RFC 1952 §2.3: deflate, fastest, any system
_END = b"\x03\x00"  # RFC 1951 §3.2: a last block without content


class Chunk:
    """Some lines."""

    __slots__ = ("_packed", "text")

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self._packed: bytes | None = None

    def packed(self) -> bytes:
        """Deflated without its end, and without a look back: it may stand behind any other."""
        if self._packed is None:
            deflater = zlib.compressobj(_LEVEL, wbits=-zlib.MAX_WBITS)
            self._packed = deflater.compress(self.text) + deflater.flush(zlib.Z_FULL_FLUSH)
        return self._packed


def gzipped(chunks: Sequence[Chunk]) -> bytes:
    """All of them as one member of RFC 1952; only new ones take long."""
    crc = size = 0
    for chunk in chunks:
        crc = zlib.crc32(chunk.text, crc)
        size += len(chunk.text)
    ending = struct.pack("<II", crc, size & 0xFFFFFFFF)
    return b"".join([_HEADER, *(chunk.packed() for chunk in chunks), _END, ending])


def pack(chunks: Sequence[Chunk]) -> None:
    """Compress ahead."""
    for chunk in chunks:
        chunk.packed()
