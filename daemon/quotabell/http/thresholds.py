"""``/api/token-monitor/thresholds``: when to ring, set by people."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, NoReturn
from uuid import UUID

import msgspec
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from quotabell.domain.usage import NAME_MAX
from quotabell.http import payload
from quotabell.http.auth import Caller, Forbidden
from quotabell.http.problem import NotFound, Taken
from quotabell.http.route import Answer, Query, Route
from quotabell.store.thresholds import Row, ThresholdExists, ThresholdsFull, ThresholdStore

PATH = "/api/token-monitor/thresholds"
_NONE = "there is no such threshold"
_LIMIT = {"type": "integer", "minimum": 1, "maximum": payload.MAX_PAGE, "default": payload.PAGE}
Percentage = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False, strict=True)]
Name = Annotated[str, Field(max_length=NAME_MAX, pattern=r"^[^\x00]*$")]


class NewThreshold(BaseModel):
    """Ring when a quota of the provider (``*``: any) and user (none: any) reaches a percentage."""

    model_config = ConfigDict(extra="forbid")

    provider: Annotated[Name, Field(min_length=1)] = "*"
    userId: Name | None = None
    thresholdPercentage: Percentage
    isActive: StrictBool = True


class ThresholdChange(BaseModel):
    """What to change of a threshold; what is left out or null stays."""

    model_config = ConfigDict(extra="forbid")

    thresholdPercentage: Percentage | None = None
    isActive: StrictBool | None = None


class Threshold(msgspec.Struct, rename="camel"):
    """A threshold. ``provider`` ``*`` and ``userId`` null stand for any."""

    id: UUID
    provider: str
    user_id: str | None
    threshold_percentage: float
    is_active: bool
    created_at: datetime
    updated_at: datetime


class Thresholds(msgspec.Struct, rename="camel"):
    """A part of the list, newest first."""

    items: list[Threshold]
    next_cursor: str | None


def routes(store: ThresholdStore) -> list[Route]:
    """The routes of this resource."""

    async def listed(request: web.Request, caller: Caller) -> web.StreamResponse:
        page = payload.Page(request)
        asked = payload.parameter(request, "userId")
        if caller.user is not None and asked not in (None, "", caller.user):
            raise Forbidden(f"this token sees the thresholds of {caller.user} and of everybody")
        rows = await store.listed(
            caller.user or asked or None,
            payload.parameter(request, "provider"),
            page.after,
            page.limit + 1,
        )
        return page.answer([_shown(row) for row in rows])

    async def one(request: web.Request, caller: Caller) -> web.StreamResponse:
        return _found(await store.one(caller.user, payload.identifier(request)))

    async def add(request: web.Request, caller: Caller) -> web.StreamResponse:
        new = await payload.read(request, NewThreshold)
        _must_own(caller)
        user = caller.counts_for(new.userId or "")
        try:
            row = await store.add(new.provider, user, new.thresholdPercentage, new.isActive)
        except (ThresholdExists, ThresholdsFull) as error:
            raise Taken(str(error)) from None
        return payload.answer(_shown(row), status=201)

    async def change(request: web.Request, caller: Caller) -> web.StreamResponse:
        asked = await payload.read(request, ThresholdChange)
        _must_own(caller)
        key = payload.identifier(request)
        try:
            row = await store.change(caller.user, key, asked.thresholdPercentage, asked.isActive)
        except ThresholdExists as error:
            raise Taken(str(error)) from None
        return _found(row) if row else await refuse(caller, key)

    async def remove(request: web.Request, caller: Caller) -> web.StreamResponse:
        _must_own(caller)
        key = payload.identifier(request)
        if not await store.remove(caller.user, key):
            await refuse(caller, key)
        return web.Response(status=204)

    async def refuse(caller: Caller, key: UUID) -> NoReturn:
        """Forbidden for a threshold that the caller may see, but not touch; else NotFound."""
        if await store.one(caller.user, key):
            raise Forbidden("this threshold is everybody's; changing it needs the scope admin")
        raise NotFound(_NONE)

    shown = {200: Answer("The threshold", Threshold)}
    return [
        Route(
            "GET",
            PATH,
            listed,
            "read",
            "List thresholds",
            answers={200: Answer("Newest first", Thresholds)} | payload.UNCHANGED,
            query=(
                Query("userId", "Of this user and of everybody", {"type": "string"}),
                Query("provider", "Of this provider", {"type": "string"}),
                Query("limit", "How many at most", _LIMIT),
                Query("cursor", "The nextCursor of the part before", {"type": "string"}),
            ),
            faults=(503,),
        ),
        Route(
            "POST",
            PATH,
            add,
            "push",
            "Add a threshold",
            request=NewThreshold,
            answers={201: Answer("Added", Threshold)},
            faults=(409, 503),
        ),
        Route("GET", PATH + "/{id}", one, "read", "One threshold", answers=shown, faults=(503,)),
        Route(
            "PATCH",
            PATH + "/{id}",
            change,
            "push",
            "Change a threshold",
            request=ThresholdChange,
            answers=shown,
            faults=(409, 503),
        ),
        Route(
            "DELETE",
            PATH + "/{id}",
            remove,
            "push",
            "Remove a threshold",
            answers={204: Answer("Removed")},
            faults=(503,),
        ),
    ]


def _must_own(caller: Caller) -> None:
    """Only admin decides for everybody, or for somebody else."""
    if caller.user is None and not caller.may("admin"):
        raise Forbidden("thresholds of others and of everybody need the scope admin")


def _found(row: Row | None) -> web.Response:
    if row is None:
        raise NotFound(_NONE)
    return payload.answer(_shown(row))


def _shown(row: Row) -> dict[str, Any]:
    return payload.camel(row) | {"userId": row["user_id"] or None}
