"""A test message on command, and what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic

from quotabell.errors import UnknownChannel
from quotabell.store.channels import ChannelStore
from quotabell.store.history import HistoryStore

BROWSERS = "webpush"
_EVERYTHING = "*"
_LOOK = 0.1  # seconds
_OPEN = ("pending", "leased")

Say = Callable[[str], None]


async def try_out(
    history: HistoryStore,
    channels: ChannelStore,
    user: str,
    channel: str | None,
    say: Say,
    *,
    patience: float,
) -> bool:
    """Send a test to a user's browsers (empty: the operators') and to all channels, or to one.

    Says how each delivery ended; whether there were some and all were sent within ``patience``
    seconds, by whichever daemon runs. Raises UnknownChannel or Unavailable.
    """
    known = [BROWSERS, *await channels.names()]
    if channel is not None and channel not in known:
        raise UnknownChannel(f"there is no channel {channel!r} in force; known: {', '.join(known)}")
    deadline = monotonic() + patience
    key = await history.test(
        user, "Quotabell", "This is a test: notifications arrive.", [channel or _EVERYTHING]
    )
    while True:
        tried = await history.deliveries(key)
        if tried is not None and not any(one.status in _OPEN for one in tried):
            break
        if monotonic() > deadline:
            if tried is None:
                say("no daemon took it up; is one running on this database?")
                return False
            break
        await asyncio.sleep(_LOOK)
    for one in tried:
        said = " ".join(str(part) for part in (one.http_status, one.reason) if part is not None)
        status = "not sent yet" if one.status in _OPEN else one.status
        say(f"{one.channel} {one.target}: {status}" + (f" ({said})" if said else ""))
    if not tried:
        say("nobody to tell: no browser is subscribed and no channel configured")
    return bool(tried) and all(one.status == "sent" for one in tried)
