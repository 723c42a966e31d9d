"""An HTTP receiver on loopback that notes what it is given and answers as a test says."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import Self

from aiohttp import web

from tests.support.waiting import eventually


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    path: str
    headers: dict[str, str]  # by lower-case name
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """``hang``: no answer ever. ``endless``: a body that never ends."""

    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    hang: bool = False
    endless: bool = False


class Receiver:
    """Answers with what is scripted, then with ``always``."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.always = Reply()
        self.origin = ""
        self._script: deque[Reply] = deque()

    def script(self, *replies: Reply) -> None:
        self._script.extend(replies)

    async def wait(self, calls: int) -> None:
        await eventually(lambda: len(self.calls) >= calls)

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.origin = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.calls.append(Call(request.path_qs, headers, await request.read()))
        reply = self._script.popleft() if self._script else self.always
        if reply.hang:
            await asyncio.Event().wait()
        if not reply.endless:
            return web.Response(status=reply.status, headers=reply.headers)
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        await response.prepare(request)
        try:
            while request.transport is not None:
                await response.write(b"x" * 65536)
        except ConnectionError:
            pass
        return response
