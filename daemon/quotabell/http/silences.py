"""``/api/token-monitor/silences``: what is not told for a while."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from aiohttp import web
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from quotabell.domain.matching import Match
from quotabell.domain.usage import NAME_MAX
from quotabell.errors import FieldError, Rejected
from quotabell.http import listing, payload
from quotabell.http.auth import Caller, Forbidden
from quotabell.http.problem import NotFound, Taken
from quotabell.http.route import Answer, Route
from quotabell.store.silences import Matchers, Row, SilenceStore, TooManySilences

PATH = "/api/token-monitor/silences"
STATES = ("active", "pending", "expired", "all")
_NONE = "there is no such silence"


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("is no time that can be understood") from None


Pattern = Annotated[str, Field(max_length=NAME_MAX, pattern=r"^[^\x00]*$")]
Reason = Annotated[str, Field(min_length=1, max_length=1_000, pattern=r"^[^\x00]*$")]
Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


class SilenceMatchers(BaseModel):
    """Shell patterns; what is left out may be anything."""

    model_config = ConfigDict(extra="forbid")

    provider: Pattern | None = None
    model: Pattern | None = None
    userId: Pattern | None = None
    quota: Pattern | None = None
    kind: Pattern | None = None


class NewSilence(BaseModel):
    """Tell nothing of alerts that match, from now on or later, until an end."""

    model_config = ConfigDict(extra="forbid")

    matchers: SilenceMatchers
    startsAt: Moment | None = Field(None, description="now, if left out")
    endsAt: Moment
    reason: Reason


class SilenceChange(BaseModel):
    """What to change of a silence; what is left out or null stays."""

    model_config = ConfigDict(extra="forbid")

    matchers: SilenceMatchers | None = None
    startsAt: Moment | None = None
    endsAt: Moment | None = None
    reason: Reason | None = None


class Silence(msgspec.Struct, rename="camel"):
    """A silence. ``userId`` null: it is about everybody's alerts; ``author`` is a token's name."""

    id: UUID
    user_id: str | None
    matchers: dict[str, str]
    starts_at: datetime
    ends_at: datetime
    author: str
    reason: str
    created_at: datetime
    updated_at: datetime


class Silences(msgspec.Struct, rename="camel"):
    """A part of the list, newest first."""

    items: list[Silence]
    next_cursor: str | None


def routes(store: SilenceStore, now: Callable[[], datetime]) -> list[Route]:
    """The routes of this resource."""

    async def listed(request: web.Request, caller: Caller) -> web.StreamResponse:
        asked = listing.Asked(request)
        state = asked.choice("state", STATES, "all")
        asked.check()
        page = payload.Page(request)
        rows = await store.listed(caller.user, state, page.after, page.limit + 1)
        return page.answer([_shown(row) for row in rows])

    async def one(request: web.Request, caller: Caller) -> web.StreamResponse:
        return _found(await store.one(caller.user, payload.identifier(request)))

    async def add(request: web.Request, caller: Caller) -> web.StreamResponse:
        new = await payload.read(request, NewSilence)
        _must_own(caller)
        matchers = _matchers(new.matchers, caller)
        if new.endsAt <= max(now(), new.startsAt or now()):
            raise Rejected([FieldError("endsAt", "must lie ahead, and after startsAt")])
        try:
            row = await store.add(
                caller.user or "", matchers, new.startsAt, new.endsAt, caller.name, new.reason
            )
        except TooManySilences as error:
            raise Taken(str(error)) from None
        return payload.answer(_shown(row), status=201)

    async def change(request: web.Request, caller: Caller) -> web.StreamResponse:
        asked = await payload.read(request, SilenceChange)
        _must_own(caller)
        key = payload.identifier(request)
        held = await store.one(caller.user, key)
        if held is None:
            raise NotFound(_NONE)
        if (asked.startsAt or held["starts_at"]) >= (asked.endsAt or held["ends_at"]):
            raise Rejected([FieldError("endsAt", "must lie after startsAt")])
        matchers = _matchers(asked.matchers, caller) if asked.matchers else None
        return _found(
            await store.change(
                caller.user, key, matchers, asked.startsAt, asked.endsAt, asked.reason
            )
        )

    async def remove(request: web.Request, caller: Caller) -> web.StreamResponse:
        _must_own(caller)
        if not await store.remove(caller.user, payload.identifier(request)):
            raise NotFound(_NONE)
        return web.Response(status=204)

    shown = {200: Answer("The silence", Silence)}
    return [
        Route(
            "GET",
            PATH,
            listed,
            "read",
            "List silences",
            answers={200: Answer("Newest first", Silences)} | payload.UNCHANGED,
            query=(
                listing.choice("state", "Only these", STATES, "all"),
                *payload.PAGING,
            ),
            faults=(503,),
        ),
        Route(
            "POST",
            PATH,
            add,
            "push",
            "Add a silence",
            request=NewSilence,
            answers={201: Answer("Added", Silence)},
            faults=(409, 503),
        ),
        Route("GET", PATH + "/{id}", one, "read", "One silence", answers=shown, faults=(503,)),
        Route(
            "PATCH",
            PATH + "/{id}",
            change,
            "push",
            "Change a silence",
            request=SilenceChange,
            answers=shown,
            faults=(503,),
        ),
        Route(
            "DELETE",
            PATH + "/{id}",
            remove,
            "push",
            "Remove a silence; what it kept back and still fires is told",
            answers={204: Answer("Removed")},
            faults=(503,),
        ),
    ]


def _must_own(caller: Caller) -> None:
    """Only admin decides for everybody."""
    if caller.user is None and not caller.may("admin"):
        raise Forbidden("silences for everybody need the scope admin")


def _matchers(asked: SilenceMatchers, caller: Caller) -> Matchers:
    given = asked.model_dump(exclude_none=True)
    named = {"user" if key == "userId" else key: pattern for key, pattern in given.items()}
    if caller.user is None and not given:
        raise Rejected([FieldError("matchers", "must name something; a * matches anything")])
    if caller.user is not None and not Match(user=named.get("user", "*")).matches(user=caller.user):
        raise Forbidden(f"this token silences what belongs to {caller.user}")
    return Matchers(given, Match(**named))


def _found(row: Row | None) -> web.Response:
    if row is None:
        raise NotFound(_NONE)
    return payload.answer(_shown(row))


def _shown(row: Row) -> dict[str, Any]:
    return payload.camel(row) | {"userId": row["user_id"] or None}
