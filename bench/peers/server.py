"""The same aiohttp server as the daemon's, for handlers that do less."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def serve(path: str, make: Callable[[], Awaitable[Handler]]) -> None:
    """Answer at ``path`` with the handler that ``make`` gives, until SIGTERM; says the URL."""
    uvloop.run(_serve(path, make))


async def _serve(path: str, make: Callable[[], Awaitable[Handler]]) -> None:
    app = web.Application()
    app.router.add_route("*", path, await make())
    options: dict[str, Any] = {"access_log": None, "handle_signals": False}
    runner = web.AppRunner(app, auto_decompress=False, keepalive_timeout=75.0, **options)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}{path}", flush=True)
    await asyncio.Event().wait()
