"""``POST /v1/traces``, ``/v1/logs``, ``/v1/metrics``: OpenTelemetry's protocol over HTTP.

Refusals are a ``google.rpc.Status`` in the encoding of the request, as the protocol has it
(opentelemetry-proto docs/specification.md, OTLP/HTTP Response, Failures).

Exporters repeat what is answered with 429, 502, 503 and 504 for some ten seconds, drop at once
what is answered otherwise, and read no answer: so what cannot be counted is told in a partial
success, and only a body that is none of theirs is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from aiohttp import hdrs, web

from quotabell.errors import QuotabellError, UnsupportedType
from quotabell.formats import otlp_answer, otlp_json, otlp_proto, otlp_series, otlp_usage
from quotabell.formats.event_body import Bounds
from quotabell.formats.json_reader import Body
from quotabell.formats.names import Signal
from quotabell.formats.otlp import Read
from quotabell.formats.received import Received
from quotabell.http import body
from quotabell.http.auth import Caller
from quotabell.http.problem import Problem
from quotabell.http.receiving import Receivers, Result, Told
from quotabell.http.route import Answer, Handler, Route, Wording

KIND = "otlp"
PROTOBUF = "application/x-protobuf"
JSON = "application/json"
_TOLD = 3  # faults that a message names
_OF_CONTENT = frozenset({hdrs.CONTENT_TYPE, hdrs.CONTENT_LENGTH})

_OF: dict[Signal, Callable[[Any, Read], Received]] = {
    "traces": otlp_usage.spans,
    "logs": otlp_usage.records,
    "metrics": otlp_series.points,
}


def routes(receivers: Receivers, senders: Sequence[str]) -> list[Route]:
    """The routes of this resource. ``senders``: who may report, so that series start at 0."""
    told = Told(receivers.metrics, KIND, senders)
    return [_route(receivers, told, signal) for signal in _OF]


def _route(receivers: Receivers, told: Told, signal: Signal) -> Route:
    return Route(
        "POST",
        f"/v1/{signal}",
        _handler(receivers, told, signal),
        "ingest",
        f"Take OpenTelemetry {signal}; also as {PROTOBUF}, answered in kind",
        request=dict[str, Any],
        answers={
            200: Answer(
                "Committed, apart from what partialSuccess says", dict[str, Any], binary=PROTOBUF
            )
        },
        faults=(503,),
        binaries=(PROTOBUF,),
        wording=Wording(
            _refusal,
            {
                JSON: {
                    "type": "object",
                    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
                    "required": ["code", "message"],
                },
                PROTOBUF: {"type": "string", "format": "binary"},
            },
        ),
    )


def _refusal(request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
    """A problem document as a status, with its headers."""
    assert isinstance(answer, web.Response)
    assert isinstance(answer.body, bytes)
    told = msgspec.json.decode(answer.body, type=Problem)
    faults = [f"{fault.field}: {fault.message}" for fault in told.errors[:_TOLD]]
    in_proto = _declared(request) == PROTOBUF
    headers = {k: v for k, v in answer.headers.items() if k not in _OF_CONTENT}
    return web.Response(
        status=told.status,
        body=otlp_answer.status(told.status, "; ".join([told.detail, *faults]), not in_proto),
        content_type=PROTOBUF if in_proto else JSON,
        headers=headers,
    )


def _handler(receivers: Receivers, told: Told, signal: Signal) -> Handler:
    def decode(raw: Body, as_json: bool) -> Received:
        now = receivers.now()
        bounds = Bounds(now, now + receivers.ingest.future_skew, receivers.oldest(now))
        names = receivers.current.reading.names
        apart = otlp_json.apart if as_json else otlp_proto.apart
        read = Read(bounds, receivers.ingest.max_batch, names)
        return _OF[signal](apart(raw, signal, names), read)

    async def take(request: web.Request, caller: Caller) -> web.StreamResponse:
        try:
            as_json = _is_json(request)
            raw = await body.read(request, receivers.ingest.max_body)
            found = await body.decoded(raw, lambda data: decode(data, as_json))
            result = await receivers.count(caller, KIND, found, signal)
        except QuotabellError as error:
            told.failed(caller.counted_as, error)
            receivers.failed(caller, KIND, error)
            raise
        told.counted(caller.counted_as, result)
        return web.Response(
            body=otlp_answer.encode(signal, result.rejected, _message(result), as_json=as_json),
            content_type=JSON if as_json else PROTOBUF,
        )

    return take


def _is_json(request: web.Request) -> bool:
    """Raises UnsupportedType for what is neither of the two encodings."""
    declared = _declared(request)
    if declared not in (JSON, PROTOBUF):
        raise UnsupportedType(f"Content-Type {declared[:80]!r}; send {PROTOBUF} or {JSON}")
    return declared == JSON


def _declared(request: web.Request) -> str:
    return request.headers.get(hdrs.CONTENT_TYPE, "").partition(";")[0].strip().lower()


def _message(result: Result) -> str:
    """What was not counted and why; empty: all was."""
    faults = [f"{error.path}: {error.message}" for error in result.errors[:_TOLD]]
    faults += [
        f"counted by {signal} of the same service.name instead (sources.signals in the "
        "configuration decides otherwise)"
        for signal in sorted(set(result.instead))
    ]
    return "; ".join(faults)
