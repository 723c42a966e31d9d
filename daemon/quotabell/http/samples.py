"""``/api/token-monitor/usage/history``: how the usage of a quota state went."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import msgspec
from aiohttp import web

from quotabell.http import listing, payload
from quotabell.http.auth import Caller
from quotabell.http.problem import NotFound
from quotabell.http.route import Answer, Query, Route
from quotabell.store.samples import FIRST, SampleStore

PATH = "/api/token-monitor/usage/history"
_POINTS = 500
_AHEAD = timedelta(seconds=1)
_SPAN = timedelta(days=1)


class Sample(msgspec.Struct, rename="camel"):
    """What was used and allowed at a time; ``burnTokensPerSecond`` null: not known."""

    time: datetime
    tokens_used: int
    token_limit: int | None
    burn_tokens_per_second: float | None


class Samples(msgspec.Struct, rename="camel"):
    """Samples by time; a state without any in a minute did not change then."""

    items: list[Sample]
    next_cursor: str | None


def routes(store: SampleStore, now: Callable[[], datetime]) -> list[Route]:
    """The routes of this resource."""

    async def history(request: web.Request, caller: Caller) -> web.StreamResponse:
        asked = listing.Asked(request)
        state = asked.uuid("stateId", required=True) or FIRST
        # The database's clock is only estimated: the newest sample must not seem to be ahead of it.
        last = asked.moment("to") or now() + _AHEAD
        first = asked.moment("from") or _before(last)
        points = asked.whole("maxPoints", _POINTS, listing.MAX_LIMIT)
        if first >= last:
            asked.wrong("from", "must lie before to")
        asked.check()
        found = await store.history(caller.user, state, first, last, points)
        if found is None:
            raise NotFound("there is no such quota state")
        return payload.listed(request, [Sample(*sample) for sample in found], None)

    points = {
        "type": "integer",
        "minimum": 1,
        "maximum": listing.MAX_LIMIT,
        "default": _POINTS,
    }
    return [
        Route(
            "GET",
            PATH,
            history,
            "read",
            "How the usage of a quota state went",
            answers={200: Answer("By time", Samples)} | payload.UNCHANGED,
            query=(
                listing.identifier("stateId", "Of this quota state", required=True),
                listing.moment("from", "Not before this time; default: a day before to"),
                listing.moment("to", "Not after this time; default: now"),
                Query("maxPoints", "Thinned to the last of that many equal parts", points),
            ),
            faults=(404, 503),
        ),
    ]


def _before(last: datetime) -> datetime:
    try:
        return last - _SPAN
    except OverflowError:
        return last
