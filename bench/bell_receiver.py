"""A push service that costs next to nothing: ``python -m bench.bell_receiver``.

Says its origin first. It answers every POST with 201 and notes when it came; GET tells when
and on which paths (the last 16 characters) as JSON, and forgets them. The times are of the
monotonic clock, which processes of one machine share.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import cast

import uvloop

_CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


class Receiver(asyncio.Protocol):
    """One connection; requests are not pipelined."""

    def __init__(self, arrivals: list[tuple[float, str]]) -> None:
        self._arrivals = arrivals
        self._buffer = bytearray()
        self._wanted = 0  # bytes of the request; 0: not known yet
        self._path = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._wanted:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = bytes(self._buffer[:end])
            self._path = head.split(b" ", 2)[1].decode()
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._wanted = end + 4 + int(length or 0)
        if len(self._buffer) < self._wanted:
            return
        if self._buffer.startswith(b"POST"):
            self._arrivals.append((time.monotonic(), self._path[-16:]))
            self._transport.write(_CREATED)
        else:
            body = json.dumps(self._arrivals).encode()
            self._arrivals.clear()
            self._transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
        self._buffer.clear()
        self._wanted = 0


async def main() -> None:
    arrivals: list[tuple[float, str]] = []
    server = await asyncio.get_running_loop().create_server(
        lambda: Receiver(arrivals), "127.0.0.1", 0
    )
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
