"""The same families in prometheus_client, behind a handler with gzip: ``… STATES``."""

from __future__ import annotations

import sys
import zlib

from aiohttp import web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Gauge, generate_latest

from bench.ground import report
from bench.peers.server import Handler, serve

_LABELS = ("quota", "provider", "model", "user")
_GZIP_LEVEL = 1  # the daemon's


def registry(states: int) -> CollectorRegistry:
    """Used, limit and ratio of so many quota states."""
    made = CollectorRegistry()
    used, limit, ratio = (
        Gauge(f"quotabell_quota_{name}", "As the daemon has it.", _LABELS, registry=made)
        for name in ("used_tokens", "limit_tokens", "used_ratio")
    )
    for number in range(states):
        r = report(number)
        labels = ("reported", r["provider"], r["model"], r["userId"])
        used.labels(*labels).set(r["tokensUsed"])
        limit.labels(*labels).set(r["tokenLimit"])
        ratio.labels(*labels).set(r["tokensUsed"] / r["tokenLimit"])
    return made


async def make() -> Handler:
    held = registry(int(sys.argv[1]))

    async def scrape(request: web.Request) -> web.StreamResponse:
        deflater = zlib.compressobj(_GZIP_LEVEL, wbits=31)
        text = deflater.compress(generate_latest(held)) + deflater.flush()
        headers = {"Content-Encoding": "gzip", "Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        return web.Response(body=text, headers=headers)

    return scrape


if __name__ == "__main__":
    serve("/metrics", make)
