"""A replica with a short lease, to be stopped in its sleep: ``… DSN ORIGIN``."""

from __future__ import annotations

import asyncio
import sys

from tests.service.station import station, web_push


async def main(dsn: str, origin: str) -> None:
    async with web_push(origin) as senders:
        async with station(dsn, senders, worker="sleeper", lease=1.0, needs=0.5) as at:
            while True:
                await asyncio.sleep(0.05)
                print(at.log.getvalue()[-2000:], flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
