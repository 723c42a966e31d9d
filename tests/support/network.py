"""Names that lead where a test wants, and ports that count who comes."""

from __future__ import annotations

import asyncio
import socket

from aiohttp.abc import AbstractResolver, ResolveResult


class FakeResolver(AbstractResolver):
    """Leads every name to the given addresses, and a list of lists by turns."""

    def __init__(self, *turns: list[tuple[str, int]]) -> None:
        self.turns = turns
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        turn = self.turns[(len(self.asked) - 1) % len(self.turns)]
        if not turn:
            raise OSError(None, "no such name")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=at,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address, at in turn
        ]

    async def close(self) -> None:
        pass


class Canary:
    """Listens on loopback and counts who comes."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.port = 0
        self.connections = 0

    async def __aenter__(self) -> Canary:
        self._server = await asyncio.start_server(self._answer, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()
        await writer.wait_closed()
