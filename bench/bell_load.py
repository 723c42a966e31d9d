"""Reports at a fixed rate that cross nothing: ``python -m bench.bell_load URL RATE``."""

from __future__ import annotations

import asyncio
import json
import sys

import aiohttp
import uvloop

ITEMS = 20  # of one request
KEYS = 2_000


async def main(url: str, rate: int) -> None:
    reports = [
        {"provider": "p", "model": "m", "userId": f"u{n}", "tokensUsed": 1, "tokenLimit": 100}
        for n in range(KEYS)
    ]
    bodies = [json.dumps(reports[n : n + ITEMS]).encode() for n in range(0, KEYS, ITEMS)]
    loop = asyncio.get_running_loop()
    begun, sent = loop.time(), 0

    async def post(session: aiohttp.ClientSession, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        async with session.post("/api/token-monitor/update", data=body, headers=headers) as answer:
            assert answer.status == 200, answer.status

    async with aiohttp.ClientSession(url) as session, asyncio.TaskGroup() as group:
        while True:
            while sent * ITEMS < (loop.time() - begun) * rate:
                group.create_task(post(session, bodies[sent % len(bodies)]))
                sent += 1
            await asyncio.sleep(0.005)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
