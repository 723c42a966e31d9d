"""Decodes a report and says so; nothing is checked, authorised or stored."""

from __future__ import annotations

import msgspec
from aiohttp import web

from bench.peers.server import Handler, serve

_ANSWER = b'{"success":true}'


async def make() -> Handler:
    async def update(request: web.Request) -> web.StreamResponse:
        msgspec.json.decode(await request.read())
        return web.Response(body=_ANSWER, content_type="application/json")

    return update


if __name__ == "__main__":
    serve("/api/token-monitor/update", make)
