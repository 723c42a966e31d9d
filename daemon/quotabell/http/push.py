"""``/api/push``: subscriptions, test messages, the history of what was sent."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from quotabell.errors import FieldError, Rejected
from quotabell.http import payload
from quotabell.http import push_model as model
from quotabell.http.allowance import Allowance, Crowd, network
from quotabell.http.auth import Caller, Forbidden
from quotabell.http.problem import NotFound, Taken
from quotabell.http.route import Answer, Query, Route
from quotabell.service.subscribe import Subscriptions, SubscriptionTaken
from quotabell.store.history import HistoryStore
from quotabell.store.push import PushStore

PATH = "/api/push"
STATUSES = ("pending", "sent", "failed", "suppressed")
_USER = Query("userId", "Of this user", {"type": "string"})
_STATUS = Query("status", "With this status", {"type": "string", "enum": list(STATUSES)})


def routes(
    subscriptions: Subscriptions,
    store: PushStore,
    history: HistoryStore,
    public_key: str,
    allowance: Allowance,
    crowd: Crowd,
) -> list[Route]:
    """The routes of this resource; ``allowance`` bounds tests and resends, ``crowd`` how often
    browsers are subscribed."""
    return [
        *_subscription_routes(subscriptions, store, public_key, crowd),
        *_message_routes(history, allowance),
    ]


def _subscription_routes(
    subscriptions: Subscriptions, store: PushStore, public_key: str, crowd: Crowd
) -> list[Route]:
    async def vapid_public_key(request: web.Request, caller: Caller) -> web.StreamResponse:
        return payload.answer(model.PublicKey(public_key))

    async def subscribe(request: web.Request, caller: Caller) -> web.StreamResponse:
        asked = await payload.read(request, model.Subscribe)
        user = _for(caller, asked.userId)
        crowd.take(caller, network(request))
        try:
            stored = await subscriptions.add(user, asked.subscription, asked.applicationServerKey)
        except SubscriptionTaken as error:
            raise Taken(str(error)) from None
        return payload.answer(
            model.Subscribed(True, stored.id, stored.user or None, stored.active, stored.reason)
        )

    async def unsubscribe(request: web.Request, caller: Caller) -> web.StreamResponse:
        asked = await payload.read(request, model.Unsubscribe)
        given = asked.subscription or model.GivenSubscription()
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
        return payload.answer(model.Done(True))

    async def listed(request: web.Request, caller: Caller) -> web.StreamResponse:
        page = payload.Page(request)
        user = _reading(caller, request)
        rows = await store.listed(user, page.after, page.limit + 1, operators=caller.may("admin"))
        return page.answer([_named(row) for row in rows])

    return [
        Route(
            "GET",
            PATH + "/vapid-public-key",
            vapid_public_key,
            "push",
            "The VAPID public key",
            answers={200: Answer("The key", model.PublicKey)},
        ),
        Route(
            "POST",
            PATH + "/subscribe",
            subscribe,
            "push",
            "Subscribe a browser",
            request=model.Subscribe,
            answers={
                200: Answer(
                    "Stored; what can never be delivered is kept inactive", model.Subscribed
                )
            },
            faults=(409, 429, 503),
        ),
        Route(
            "POST",
            PATH + "/unsubscribe",
            unsubscribe,
            "push",
            "End a subscription",
            request=model.Unsubscribe,
            answers={200: Answer("Ended", model.Done)},
            faults=(404, 503),
        ),
        Route(
            "GET",
            PATH + "/subscriptions",
            listed,
            "push",
            "List subscriptions",
            answers={200: Answer("Newest first", model.Subscriptions)} | payload.UNCHANGED,
            query=(_USER, *payload.PAGING),
            faults=(503,),
        ),
    ]


def _message_routes(history: HistoryStore, allowance: Allowance) -> list[Route]:
    async def test(request: web.Request, caller: Caller) -> web.StreamResponse:
        asked = await payload.read(request, model.TestMessage)
        user = _for(caller, asked.userId)
        allowance.take(caller)
        key = await history.test(user, "Quotabell", "This is a test: notifications arrive.")
        return payload.answer(model.Queued(True, key), status=202)

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
        asked = payload.identifier(request)
        allowance.take(caller)
        key = await history.resend(caller.user, asked)
        if key is None:
            raise NotFound("there is no such notification")
        return payload.answer(model.Queued(True, key), status=202)

    queued = {202: Answer("It waits for its delivery", model.Queued)}
    return [
        Route(
            "POST",
            PATH + "/test",
            test,
            "push",
            "Send a test message",
            request=model.TestMessage,
            answers=queued,
            faults=(429, 503),
        ),
        Route(
            "GET",
            PATH + "/history",
            past,
            "read",
            "Notifications, their deliveries and attempts",
            answers={200: Answer("Newest first", model.Notifications)} | payload.UNCHANGED,
            query=(_USER, _STATUS, *payload.PAGING),
            faults=(503,),
        ),
        Route(
            "POST",
            PATH + "/history/{id}/resend",
            resend,
            "push",
            "Send a message again",
            answers=queued,
            faults=(429, 503),
        ),
    ]


def _for(caller: Caller, user: str | None) -> str:
    """Whom it is for; only admin acts for operators, who are nobody in particular."""
    own = caller.counts_for(user or "")
    if not own and not caller.may("admin"):
        raise Forbidden("without a userId this is for operators, which needs the scope admin")
    return own


def _reading(caller: Caller, request: web.Request) -> str | None:
    """Whose rows to show; None: everybody's."""
    asked = payload.parameter(request, "userId")
    if caller.user is not None and asked not in (None, caller.user):
        raise Forbidden(f"this token sees what belongs to {caller.user}")
    return caller.user or asked


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return payload.camel(row) | {"userId": row["user_id"] or None}
