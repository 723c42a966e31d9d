"""``/api/push``: subscriptions, test messages, the history of what was sent."""

from __future__ import annotations

from typing import Annotated, Any

from aiohttp import web
from pydantic import BaseModel, Field

from quotabell.domain.usage import NAME_MAX
from quotabell.errors import FieldError, Rejected
from quotabell.http import payload
from quotabell.http.auth import Caller, Forbidden
from quotabell.http.problem import NotFound, Taken
from quotabell.http.routing import Route
from quotabell.service.subscribe import Subscriptions, SubscriptionTaken
from quotabell.store.history import HistoryStore
from quotabell.store.push import PushStore

PATH = "/api/push"
STATUSES = ("pending", "sent", "failed", "suppressed")
Name = Annotated[str, Field(max_length=NAME_MAX, pattern=r"^[^\x00]*$")]
Text = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]


class Subscribe(BaseModel):
    """A browser's subscription for a user; without one it is an operator's."""

    userId: Name | None = None
    subscription: Any = None
    applicationServerKey: Annotated[str, Field(max_length=200)] | None = Field(
        None, description="the VAPID public key that the subscription was made with"
    )


class Keys(BaseModel):
    """The secret that proves whose subscription it is."""

    auth: Text | None = None


class Given(BaseModel):
    """A subscription as the browser gives it."""

    endpoint: Text | None = None
    keys: Keys | None = None


class Unsubscribe(BaseModel):
    """The subscription to end: its endpoint, alone or as the browser gives it."""

    endpoint: Text | None = None
    subscription: Given | None = None


class TestMessage(BaseModel):
    """Whose browsers to send a test message to."""

    userId: Name | None = None


def routes(
    subscriptions: Subscriptions, store: PushStore, history: HistoryStore, public_key: str
) -> list[Route]:
    """The routes of this resource."""

    async def vapid_public_key(request: web.Request, caller: Caller) -> web.StreamResponse:
        return payload.answer({"publicKey": public_key})

    async def subscribe(request: web.Request, caller: Caller) -> web.StreamResponse:
        asked = await payload.read(request, Subscribe)
        user = _for(caller, asked.userId)
        try:
            stored = await subscriptions.add(user, asked.subscription, asked.applicationServerKey)
        except SubscriptionTaken as error:
            raise Taken(str(error)) from None
        answer = {
            "success": True,
            "id": stored.id,
            "userId": stored.user or None,
            "active": stored.active,
        }
        if stored.reason:
            answer["reason"] = stored.reason
        return payload.answer(answer)

    async def unsubscribe(request: web.Request, caller: Caller) -> web.StreamResponse:
        asked = await payload.read(request, Unsubscribe)
        given = asked.subscription or Given()
        endpoint = asked.endpoint or given.endpoint
        if not endpoint:
            raise Rejected([FieldError("endpoint", "must be a string that is not empty")])
        auth = given.keys.auth if given.keys else None
        ended = await store.unsubscribe(
            endpoint,
            any_user=caller.may("admin"),
            user=caller.user,
            auth=auth.rstrip("=") if auth else None,
        )
        if not ended:
            raise NotFound("there is no such subscription of yours")
        return payload.answer({"success": True})

    async def listed(request: web.Request, caller: Caller) -> web.StreamResponse:
        page = payload.Page(request)
        rows = await store.listed(
            _reading(caller, request), page.after, page.limit + 1, operators=caller.may("admin")
        )
        return page.answer([_named(row) for row in rows])

    async def test(request: web.Request, caller: Caller) -> web.StreamResponse:
        asked = await payload.read(request, TestMessage)
        user = _for(caller, asked.userId)
        key = await history.test(user, "Quotabell", "This is a test: notifications arrive.")
        return payload.answer({"success": True, "notificationId": key}, status=202)

    async def past(request: web.Request, caller: Caller) -> web.StreamResponse:
        page = payload.Page(request)
        status = request.query.get("status")
        if status is not None and status not in STATUSES:
            raise Rejected([FieldError("status", f"must be one of {', '.join(STATUSES)}")])
        user = _reading(caller, request)
        rows = await history.listed(user, status, page.after, page.limit + 1)
        return page.answer([_named(row) for row in rows])

    async def resend(request: web.Request, caller: Caller) -> web.StreamResponse:
        if caller.user is None and not caller.may("admin"):
            raise Forbidden("sending to others needs the scope admin")
        key = await history.resend(caller.user, payload.identifier(request))
        if key is None:
            raise NotFound("there is no such notification")
        return payload.answer({"success": True, "notificationId": key}, status=202)

    return [
        Route("GET", PATH + "/vapid-public-key", vapid_public_key, "push", "The VAPID public key"),
        Route("POST", PATH + "/subscribe", subscribe, "push", "Subscribe a browser"),
        Route("POST", PATH + "/unsubscribe", unsubscribe, "push", "End a subscription"),
        Route("GET", PATH + "/subscriptions", listed, "push", "List subscriptions"),
        Route("POST", PATH + "/test", test, "push", "Send a test message"),
        Route("GET", PATH + "/history", past, "read", "Notifications and their attempts"),
        Route("POST", PATH + "/history/{id}/resend", resend, "push", "Send a message again"),
    ]


def _for(caller: Caller, user: str | None) -> str:
    """Whom it is for; only admin acts for operators, who are nobody in particular."""
    own = caller.counts_for(user or "")
    if not own and not caller.may("admin"):
        raise Forbidden("without a userId this is for operators, which needs the scope admin")
    return own


def _reading(caller: Caller, request: web.Request) -> str | None:
    return caller.user if caller.user is not None else payload.parameter(request, "userId")


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return payload.camel(row) | {"userId": row["user_id"] or None}
