"""``POST /api/ingest/litellm``: what LiteLLM's ``generic_api`` callback sends.

LiteLLM loses every call that it logs while a batch is on its way, so an answer comes as soon as
the batch is committed; and it repeats nothing that was answered with 4xx, so one bad item never
costs the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aiohttp import hdrs, web

from quotabell.errors import QuotabellError
from quotabell.formats import litellm
from quotabell.formats.json_reader import Body
from quotabell.formats.received import Received
from quotabell.http import body
from quotabell.http.auth import Caller
from quotabell.http.events import NDJSON
from quotabell.http.receiving import Receipt, Receivers, Told, receipt
from quotabell.http.route import Answer, Route

KIND = "litellm"
PATH = "/api/ingest/litellm"


def routes(receivers: Receivers, senders: Sequence[str]) -> list[Route]:
    """The routes of this resource. ``senders``: who may report, so that series start at 0."""
    told = Told(receivers.metrics, KIND, senders)

    def decode(raw: Body) -> Received:
        now = receivers.now()
        return litellm.decode(
            raw,
            now=now,
            future_skew=receivers.ingest.future_skew,
            oldest=receivers.oldest(now),
            max_batch=receivers.ingest.max_batch,
            users=receivers.current.reading.litellm,
        )

    async def take(request: web.Request, caller: Caller) -> web.StreamResponse:
        try:
            if request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0] not in NDJSON:
                body.expect_json(request)
            found = await body.decoded(await body.read(request, receivers.ingest.max_body), decode)
            result = await receivers.count(caller, KIND, found)
            receivers.learn(caller, found.limits)
        except QuotabellError as error:
            told.failed(caller.counted_as, error)
            receivers.failed(caller, KIND, error)
            raise
        told.counted(caller.counted_as, result)
        return receipt(result)

    return [
        Route(
            "POST",
            PATH,
            take,
            "ingest",
            "Take what LiteLLM's generic_api callback sends: an array, NDJSON, or one object",
            request=dict[str, Any] | list[dict[str, Any]],
            answers={200: Answer("Committed, apart from what was rejected or skipped", Receipt)},
            faults=(503,),
        )
    ]
