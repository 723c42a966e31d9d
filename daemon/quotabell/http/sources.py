"""``/api/token-monitor/sources``: who reports, and how it goes."""

from __future__ import annotations

from datetime import datetime

import msgspec
from aiohttp import web

from quotabell.http import payload
from quotabell.http.auth import Caller
from quotabell.http.route import Answer, Route
from quotabell.store.sources import SourceStore

PATH = "/api/token-monitor/sources"


class Source(msgspec.Struct, rename="camel"):
    """A token by one way in, and the source that its events name.

    ``userId`` null: the token is bound to nobody. ``events`` counts repeats as well;
    ``lastEventAt`` is the time of receipt. ``lastError`` tells of the last rejection, and
    nothing of its body. ``signal``: of OpenTelemetry's (traces, logs, metrics) the one that counts.
    ``staleSince``: when its stale alert began; null if none fires, and for bound tokens.
    """

    name: str
    user_id: str | None
    kind: str
    first_seen: datetime
    last_event_at: datetime | None
    events: int
    rejected: int
    last_rejected_at: datetime | None
    last_error: str | None
    signal: str | None
    stale_since: datetime | None


class Sources(msgspec.Struct, rename="camel"):
    """All sources by name; those beyond 1,000 are counted as one that is called other."""

    items: list[Source]
    next_cursor: str | None


def routes(store: SourceStore) -> list[Route]:
    """The routes of this resource."""

    async def listed(request: web.Request, caller: Caller) -> web.StreamResponse:
        found = await store.listed(caller.user)
        items = [Source(**s._asdict() | {"user_id": s.user_id or None}) for s in found]
        return payload.listed(request, items, None)

    return [
        Route(
            "GET",
            PATH,
            listed,
            "read",
            "Who reports, by which way in, and how it goes",
            answers={200: Answer("By name", Sources)} | payload.UNCHANGED,
            faults=(503,),
        )
    ]
