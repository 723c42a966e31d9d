"""pywebpush as its manual has it, one message after the other: ``… ORIGIN COUNT``.

Prints the messages a second. The key is parsed once, which is more than the manual does.
"""

from __future__ import annotations

import json
import sys
import time

import uvloop
from py_vapid import Vapid
from pywebpush import webpush_async
from tests.channels.common import NOTE
from tests.support.push_browser import Browser


async def main(origin: str, count: int) -> None:
    subscriptions = [
        Browser(f"{origin}/wpush/v2/{n:016}", f"{n}", None).subscription for n in range(count)
    ]
    vapid = Vapid()
    vapid.generate_keys()
    text = json.dumps(NOTE.payload()).ljust(2641)  # as long as the daemon's
    begun = time.perf_counter()
    for subscription in subscriptions:
        await webpush_async(
            subscription,
            text,
            vapid_private_key=vapid,
            vapid_claims={"sub": "mailto:ops@example.com"},
            ttl=3600,
            timeout=10,
        )
    print(count / (time.perf_counter() - begun))


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2])))
