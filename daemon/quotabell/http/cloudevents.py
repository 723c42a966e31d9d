"""``POST /api/ingest/cloudevents``, and ``/api/v1/events`` where OpenMeter's clients send."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import web

from quotabell.errors import QuotabellError
from quotabell.formats import cloudevents
from quotabell.http import body
from quotabell.http.auth import Caller
from quotabell.http.receiving import Receipt, Receivers, Told, receipt
from quotabell.http.route import Answer, Route

KIND = "cloudevents"
PATH = "/api/ingest/cloudevents"
OPENMETER_PATH = "/api/v1/events"


def routes(receivers: Receivers, senders: Sequence[str]) -> list[Route]:
    """The routes of this resource. ``senders``: who may report, so that series start at 0."""
    told = Told(receivers.metrics, KIND, senders)

    def decode(raw: bytes) -> cloudevents.ReceivedEvents:
        now = receivers.now()
        return cloudevents.decode(
            raw,
            now=now,
            future_skew=receivers.ingest.future_skew,
            oldest=receivers.oldest(now),
            max_batch=receivers.ingest.max_batch,
        )

    async def take(request: web.Request, caller: Caller) -> web.Response:
        try:
            body.expect_json(request)
            found = await body.decoded(await body.read(request, receivers.ingest.max_body), decode)
            for event, foreign in zip(found.events, found.foreign, strict=True):
                if not foreign:
                    caller.counts_for(receivers.current.one(event.user_id))
            result = await receivers.count(caller, KIND, found)
            answer = receipt(result)
        except QuotabellError as error:
            told.failed(caller.name, error)
            receivers.failed(caller, KIND, error)
            raise
        told.counted(caller.name, result)
        return answer

    async def as_openmeter(request: web.Request, caller: Caller) -> web.StreamResponse:
        await take(request, caller)
        return web.Response(status=204)

    return [
        Route(
            "POST",
            PATH,
            take,
            "ingest",
            "Take CloudEvents: one, or a batch",
            request=dict[str, Any] | list[dict[str, Any]],
            answers={200: Answer("Committed, apart from what was rejected or skipped", Receipt)},
            faults=(503,),
        ),
        Route(
            "POST",
            OPENMETER_PATH,
            as_openmeter,
            "ingest",
            "The same, answered as OpenMeter does",
            request=dict[str, Any] | list[dict[str, Any]],
            answers={204: Answer("Committed, apart from what was rejected")},
            faults=(503,),
        ),
    ]
