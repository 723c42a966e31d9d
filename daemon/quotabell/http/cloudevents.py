"""``POST /api/ingest/cloudevents``, and ``/api/v1/events`` where OpenMeter's clients send.

CloudEvents HTTP protocol binding 1.0.2, all of its content modes: structured (§3.2) and batched
(§3.3) have a media type of ``application/cloudevents…``; in binary (§3.1) the body is the data, and
the attributes are headers. OpenMeter's clients also send the structured forms as
``application/json``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import unquote_to_bytes

from aiohttp import hdrs, web
from pydantic import Field

from quotabell.errors import FieldError, QuotabellError, Rejected
from quotabell.formats import cloudevents
from quotabell.formats.json_reader import Body
from quotabell.http import body
from quotabell.http.auth import Caller
from quotabell.http.receiving import Receipt, Receivers, Told, receipt
from quotabell.http.route import Answer, Route

KIND = "cloudevents"
PATH = "/api/ingest/cloudevents"
OPENMETER_PATH = "/api/v1/events"

_PREFIX = "ce-"
_VERSION = "ce-specversion"
_ESCAPED = re.compile(r"\\(.)")


def routes(receivers: Receivers, senders: Sequence[str]) -> list[Route]:
    """The routes of this resource. ``senders``: who may report, so that series start at 0."""
    told = Told(receivers.metrics, KIND, senders)

    def decode(raw: Body, attributes: dict[str, str] | None) -> cloudevents.ReceivedEvents:
        now = receivers.now()
        skew, oldest = receivers.ingest.future_skew, receivers.oldest(now)
        if attributes is not None:
            return cloudevents.decode_binary(
                attributes, raw, now=now, future_skew=skew, oldest=oldest
            )
        return cloudevents.decode(
            raw,
            now=now,
            future_skew=skew,
            oldest=oldest,
            max_batch=receivers.ingest.max_batch,
        )

    async def take(request: web.Request, caller: Caller) -> web.Response:
        try:
            body.expect_json(request)
            beside = _attributes(request)
            raw = await body.read(request, receivers.ingest.max_body)
            found = await body.decoded(raw, lambda data: decode(data, beside))
            for event, foreign in zip(found.events, found.foreign, strict=True):
                if not foreign:
                    caller.counts_for(receivers.current.one(event.user_id))
            result = await receivers.count(caller, KIND, found)
            answer = receipt(result)
        except QuotabellError as error:
            told.failed(caller.counted_as, error)
            receivers.failed(caller, KIND, error)
            raise
        told.counted(caller.counted_as, result)
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
            "Take CloudEvents: one, or a batch, or one whose attributes are headers (ce-…)",
            request=dict[str, Any] | Annotated[list[dict[str, Any]], Field(min_length=1)],
            answers={200: Answer("Committed, apart from what was rejected or skipped", Receipt)},
            faults=(503,),
        ),
        Route(
            "POST",
            OPENMETER_PATH,
            as_openmeter,
            "ingest",
            "The same, answered as OpenMeter does",
            request=dict[str, Any] | Annotated[list[dict[str, Any]], Field(min_length=1)],
            answers={204: Answer("Committed, apart from what was rejected")},
            faults=(503,),
        ),
    ]


def _attributes(request: web.Request) -> dict[str, str] | None:
    """The attributes of an event in binary mode; None: it is in another. Raises Rejected."""
    declared = request.headers.get(hdrs.CONTENT_TYPE, "").strip().lower()
    if _VERSION not in request.headers or declared.startswith("application/cloudevents"):
        return None
    return {
        name.lower().removeprefix(_PREFIX): _decoded(name, value)
        for name, value in request.headers.items()
        if name.lower().startswith(_PREFIX)
    }


def _decoded(name: str, value: str) -> str:
    """What a header stands for: its quotes first, then what is percent-encoded (§3.1.3.2)."""
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = _ESCAPED.sub(r"\1", value[1:-1])
    try:
        return unquote_to_bytes(value.encode()).decode()
    except UnicodeError:
        raise Rejected([FieldError(name.lower(), "is no percent-encoded UTF-8")]) from None
