"""A way to Postgres that breaks at the worst moment: while a COMMIT is under way.

It reads the frontend's messages (Postgres documentation, "Message Formats") far enough to know
one that commits: ``COMMIT`` itself, or the execution of a named statement outside a transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

MODES = ("before", "during", "after")
KINDS = ("transaction", "statement")
_LINGER = struct.pack("ii", 1, 0)  # close by RST
_READY = b"Z\0\0\0\5I"  # ReadyForQuery, idle: what was asked for is committed


@dataclass(slots=True)
class CommitCutter:
    """Listens on ``port`` of loopback and leads to ``target``, a port of loopback as well.

    ``before``: the server never hears of the COMMIT; ``during``: it hears of it and its client is
    gone; ``after``: it has committed, and the answer gets lost. Both sides see a reset.
    """

    target: int
    statement: str  # a text within the statement that commits by itself
    port: int = 0
    cuts: Counter[str] = field(default_factory=Counter)
    _next: tuple[str, str] | None = None  # kind of commit, mode
    _cut: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> CommitCutter:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()

    def dsn(self, tcp_dsn: str) -> str:
        """The same database through here."""
        parts = urlsplit(tcp_dsn)
        return tcp_dsn.replace(f"@{parts.hostname}:{parts.port}/", f"@127.0.0.1:{self.port}/")

    async def cut(self, kind: str, mode: str, timeout: float = 60.0) -> None:
        """Cut the next connection that commits in this way; returns when that has been done."""
        assert kind in KINDS
        assert mode in MODES
        self._cut.clear()
        self._next = (kind, mode)
        async with asyncio.timeout(timeout):
            await self._cut.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            onward = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        line = _Line(self, (reader, writer), onward)
        tasks = {asyncio.create_task(line.forth()), asyncio.create_task(line.back())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            writer.close()
            onward[1].close()

    def take(self, kind: str) -> str:
        """How to cut a connection that is about to commit; empty: not at all."""
        if self._next is None or self._next[0] != kind:
            return ""
        mode, self._next = self._next[1], None
        self.cuts[f"{kind}, {mode}"] += 1
        return mode

    def done(self) -> None:
        self._cut.set()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Line:
    """One connection of a client, and the one that was made for it."""

    def __init__(self, cutter: CommitCutter, client: Streams, server: Streams) -> None:
        self._cutter = cutter
        self._client = client
        self._server = server
        self._statements: set[bytes] = set()  # names of those that commit by themselves
        self._within = False  # a transaction
        self._held = False  # answers are not passed on any more
        self._committed = asyncio.Event()

    async def forth(self) -> None:
        reader = self._client[0]
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await self._start(reader)
            while True:
                kind = await reader.readexactly(1)
                size = await reader.readexactly(4)
                body = await reader.readexactly(struct.unpack("!I", size)[0] - 4)
                message = kind + size + body
                what = self._commits(kind, body)
                if what and (mode := self._cutter.take(what)):
                    rest = b""
                    if what == "statement" and mode != "before":  # Execute and Sync follow
                        rest = await self._until_sync(reader)
                    await self._break(mode, message + rest)
                    return
                self._server[1].write(message)
                await self._server[1].drain()

    async def _start(self, reader: asyncio.StreamReader) -> None:
        """The messages without a kind: requests for encryption, which are refused, and one that
        begins the session."""
        while True:
            size = await reader.readexactly(4)
            body = await reader.readexactly(struct.unpack("!I", size)[0] - 4)
            self._server[1].write(size + body)
            if len(body) > 4:
                return

    async def back(self) -> None:
        with contextlib.suppress(OSError):
            while data := await self._server[0].read(65536):
                if data.endswith(_READY):
                    self._committed.set()
                if not self._held:
                    self._client[1].write(data)
                    await self._client[1].drain()

    def _commits(self, kind: bytes, body: bytes) -> str:
        if kind == b"Q":
            text = body.rstrip(b"\0").strip().upper()
            if text.startswith(b"COMMIT"):
                self._within = False
                return "transaction"
            self._within = not text.startswith(b"ROLLBACK") and (
                self._within or text.startswith(b"BEGIN")
            )
        elif kind == b"P":
            name, text = body.split(b"\0")[:2]
            if self._cutter.statement.encode() in text:
                self._statements.add(name)
        elif kind == b"B" and not self._within:
            _, name = body.split(b"\0", 2)[:2]
            return "statement" if name in self._statements else ""
        return ""

    async def _until_sync(self, reader: asyncio.StreamReader) -> bytes:
        said = b""
        while not said.endswith(b"S\0\0\0\4"):
            said += await reader.read(65536) or b"S\0\0\0\4"
        return said

    async def _break(self, mode: str, message: bytes) -> None:
        if mode != "before":
            self._held = True
            self._committed.clear()
            self._server[1].write(message)
            await self._server[1].drain()
        if mode == "after":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(4.0):
                    await self._committed.wait()
        for _, writer in (self._client, self._server):
            made = writer.get_extra_info("socket")
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
            writer.transport.abort()
        self._cutter.done()
