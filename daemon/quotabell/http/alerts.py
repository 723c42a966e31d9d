"""``/api/token-monitor/alerts``: what fires and what has ended."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec
from aiohttp import web

from quotabell.domain.usage import shown_percentage
from quotabell.http import listing, payload
from quotabell.http.auth import Caller, Forbidden
from quotabell.http.problem import NotFound, Over
from quotabell.http.route import Answer, Query, Route
from quotabell.store import episodes
from quotabell.store.episodes import EpisodeStore, Position

PATH = "/api/token-monitor/alerts"
STATUSES = ("firing", "resolved", "all")
_LIMIT = 100
_KIND = Query("kind", "Only of kinds that match", listing.PATTERN)


class Alert(msgspec.Struct, rename="camel"):
    """An episode of one kind for one quota state, or for the ``subject`` of a stale or channel
    alert: these have no ``stateId``, level, tokens or percentage.

    ``level`` is the percentage that was reached, 100 of a forecast; ``seq`` counts its transitions.
    Tokens and percentage are those of the last change of its level. ``reason``: why it has ended.
    ``exhaustsAt``: when the limit will be reached, of a forecast that fires.
    """

    id: UUID
    state_id: UUID | None
    kind: Literal["threshold", "forecast", "stale", "channel"]
    status: Literal["firing", "resolved"]
    user_id: str | None
    quota: str
    provider: str
    model: str
    level: float | None
    seq: int
    tokens_used: int | None
    token_limit: int | None
    percentage: float | None
    reason: str | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    started_at: datetime
    ended_at: datetime | None
    subject: str | None
    exhausts_at: datetime | None


class Alerts(msgspec.Struct, rename="camel"):
    """A part of the list, newest first."""

    items: list[Alert]
    next_cursor: str | None


class AcknowledgedAlert(msgspec.Struct):
    """The alert with who acknowledged it first."""

    success: bool
    data: Alert


def routes(store: EpisodeStore) -> list[Route]:
    """The routes of this resource."""

    async def listed(request: web.Request, caller: Caller) -> web.StreamResponse:
        asked = listing.Asked(request)
        match = asked.filters(caller, kind=True)
        status = asked.choice("status", STATUSES, "firing")
        limit = asked.whole("limit", _LIMIT, listing.MAX_LIMIT)
        after = asked.position(Position)
        asked.check()
        found = await store.listed(caller.user, match, status, after, limit + 1)
        shown = found[:limit]
        end = Position(shown[-1].started_at, shown[-1].id) if len(found) > limit else None
        return payload.listed(request, [_shown(alert) for alert in shown], end)

    async def acknowledge(request: web.Request, caller: Caller) -> web.StreamResponse:
        if caller.user is None and not caller.may("admin"):
            raise Forbidden("acknowledging for others needs the scope admin")
        alert = await store.acknowledge(caller.user, payload.identifier(request), caller.name)
        if alert is None:
            raise NotFound("there is no such alert")
        if alert.status == "resolved":
            raise Over("this alert has ended")
        return payload.answer(AcknowledgedAlert(True, _shown(alert)))

    return [
        Route(
            "GET",
            PATH,
            listed,
            "read",
            "List alerts",
            answers={200: Answer("Newest first", Alerts)} | payload.UNCHANGED,
            query=(
                *listing.FILTERS,
                _KIND,
                listing.choice("status", "Only these", STATUSES, "firing"),
                *listing.paging(_LIMIT),
            ),
            faults=(503,),
        ),
        Route(
            "POST",
            PATH + "/{id}/ack",
            acknowledge,
            "push",
            "Acknowledge an alert: it is not repeated until it gets worse",
            answers={200: Answer("Acknowledged, now or before", AcknowledgedAlert)},
            faults=(409, 503),
        ),
    ]


def _shown(alert: episodes.Alert) -> Alert:
    used, limit = alert.tokens_used, alert.token_limit
    values = alert._asdict() | {
        "user_id": alert.user_id or None,
        "percentage": shown_percentage(used * 100.0 / limit if limit else None),
        "subject": alert.subject or None,
    }
    if alert.subject:
        values |= {"state_id": None, "level": None, "tokens_used": None}
    return Alert(**values)
