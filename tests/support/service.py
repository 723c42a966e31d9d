"""A name that leads to any living replica, as a service of Kubernetes does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence


@contextlib.asynccontextmanager
async def service(addresses: Sequence[tuple[str, int]]) -> AsyncIterator[str]:
    """The host and port that forward each connection to the next address where one is taken."""
    lines: set[asyncio.StreamWriter] = set()
    turn = 0

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal turn
        lines.add(writer)
        turn += 1
        try:
            for number in range(len(addresses)):
                with contextlib.suppress(OSError):
                    there = await asyncio.open_connection(
                        *addresses[(turn + number) % len(addresses)]
                    )
                    await _both_ways((reader, writer), there)
                    return
        finally:
            lines.discard(writer)
            writer.close()

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    try:
        yield "{}:{}".format(*server.sockets[0].getsockname()[:2])
    finally:
        server.close()
        for writer in list(lines):
            writer.close()
        await server.wait_closed()


_Line = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _both_ways(here: _Line, there: _Line) -> None:
    """Until either side ends, whose other end is then told at once."""
    ways = [
        asyncio.create_task(_copy(here[0], there[1])),
        asyncio.create_task(_copy(there[0], here[1])),
    ]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        there[1].close()
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(64 * 1024):
        writer.write(data)
        await writer.drain()
