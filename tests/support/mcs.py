"""What Chromium and Google's push service say to each other: protobuf by hand, and MCS frames.

MCS (Mobile Connection Server, version 41) is a TLS stream of tagged protobuf messages; the field
numbers are those of Chromium's ``google_apis/gcm/protocol/mcs.proto`` and ``checkin.proto``.
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias

VERSION = 41
PING, ACK, LOGIN, LOGGED_IN, CLOSE, IQ, DATA = 0, 1, 2, 3, 4, 7, 8
_SELECTIVE_ACK = 12  # the extension of an IQ that names messages

Value: TypeAlias = int | str | bytes
Fields: TypeAlias = dict[int, list[int | bytes]]


def varint(number: int) -> bytes:
    out = bytearray()
    while True:
        number, low = number >> 7, number & 127
        out.append(low | (128 if number else 0))
        if not number:
            return bytes(out)


def encode(*fields: tuple[int, Value]) -> bytes:
    """Numbers as varints, text and bytes with their length."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            raw = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(raw)) + raw
    return out


def fixed64(field: int, number: int) -> bytes:
    return varint(field << 3 | 1) + number.to_bytes(8, "little")


def decode(raw: bytes) -> Fields:
    """Field number → its values."""
    fields: Fields = {}
    at = 0
    while at < len(raw):
        key, at = _varint(raw, at)
        value: int | bytes
        if key & 7 == 0:
            value, at = _varint(raw, at)
        elif key & 7 in (1, 5):
            size = 8 if key & 7 == 1 else 4
            value, at = int.from_bytes(raw[at : at + size], "little"), at + size
        else:
            size, at = _varint(raw, at)
            value, at = raw[at : at + size], at + size
        fields.setdefault(key >> 3, []).append(value)
    return fields


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at


def text(fields: Fields, number: int) -> str:
    """The first value of a field, as text."""
    value = fields[number][0]
    assert isinstance(value, bytes)
    return value.decode()


def acknowledged(iq: Fields) -> list[str]:
    """The ids that an IQ acknowledges by name."""
    if 7 not in iq or not isinstance(iq[7][0], bytes):
        return []
    extension = decode(iq[7][0])
    if extension.get(1) != [_SELECTIVE_ACK] or not isinstance(extension[2][0], bytes):
        return []
    return [one.decode() for one in decode(extension[2][0]).get(1, ()) if isinstance(one, bytes)]


class Stream:
    """One browser's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.sent = 0

    async def version(self) -> int:
        """What the browser says first."""
        return (await self._reader.readexactly(1))[0]

    async def read(self) -> tuple[int, Fields]:
        """Tag and fields of the next message."""
        tag = (await self._reader.readexactly(1))[0]
        size = shift = 0
        while True:
            byte = (await self._reader.readexactly(1))[0]
            size |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        return tag, decode(await self._reader.readexactly(size))

    async def write(self, tag: int, body: bytes) -> None:
        start = b"" if self.sent else bytes([VERSION])
        self.sent += 1
        self._writer.write(start + bytes([tag]) + varint(len(body)) + body)
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()
