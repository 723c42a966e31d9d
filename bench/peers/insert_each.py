"""Stores each report by a statement of its own, over a pool: ``… DSN``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import asyncpg
import msgspec
from aiohttp import web

from bench.peers.server import Handler, serve
from quotabell.formats import snapshot
from quotabell.store.queries import load

_POOL_SIZE = 8


async def make() -> Handler:
    pool = await asyncpg.create_pool(sys.argv[1], min_size=_POOL_SIZE, max_size=_POOL_SIZE)
    statement = load("usage")["report"]
    skew = timedelta(minutes=5)

    async def update(request: web.Request) -> web.StreamResponse:
        now = datetime.now(UTC)
        decoded = snapshot.decode(await request.read(), now=now, future_skew=skew, max_batch=10_000)
        columns = zip(*decoded.snapshots, strict=True)
        provider, model, used, limit, user, at, quota, unit, reset = columns
        rows = await pool.fetch(
            statement, user, quota, provider, model, used, limit, at, unit, reset
        )
        answer = {"success": True, "data": dict(rows[0])}
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    return update


if __name__ == "__main__":
    serve("/api/token-monitor/update", make)
