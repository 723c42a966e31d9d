"""``/metrics``, in the form that is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from quotabell.errors import FieldError
from quotabell.http.auth import Caller
from quotabell.http.negotiation import takes_gzip, wants_openmetrics
from quotabell.http.problem import problem
from quotabell.http.route import Answer, Query, Route
from quotabell.metrics import Metrics
from quotabell.service.chunks import Chunk, gzipped
from quotabell.service.exposition import UsageExposition
from quotabell.service.shared import Shared
from quotabell.store.database import Database

PARTS = ("usage", "health")
_PARTS_SCHEMA = {"type": "array", "items": {"enum": list(PARTS)}}
_OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_LAST = "# EOF\n"
_USAGE = frozenset({"usage"})
_GZIP_FROM = 1_000  # bytes; below it the header costs more than it saves
_OFF_LOOP_FROM = 128 * 1024


class _Form(NamedTuple):
    parts: frozenset[str]
    openmetrics: bool
    gzip: bool


class _Body(NamedTuple):
    content: bytes
    gzip: bool


def routes(
    database: Database, metrics: Metrics, usage: UsageExposition, leading: Callable[[], bool]
) -> list[Route]:
    """The routes of this resource. ``leading``: whether usage is told without being asked for."""

    async def make(form: _Form) -> _Body:
        chunks: list[Chunk] = []
        if "health" in form.parts:
            metrics.database_up.set(database.up)
            metrics.clock_offset.set(database.clock.offset)
            chunks.append(Chunk(metrics.render(form.openmetrics)))
        if "usage" in form.parts and database.up:
            chunks += await usage.render(form.openmetrics)
        if form.openmetrics:
            chunks.append(last)
        size = _size(chunks)
        if form.gzip and size > _OFF_LOOP_FROM:
            return _Body(await asyncio.to_thread(gzipped, chunks), True)
        return _body(chunks, size, form.gzip)

    def at_once(form: _Form) -> _Body | None:
        """Of few series, where a task to share costs more than all that there is to do: what
        did not change since the last scrape is there, rendered and compressed."""
        chunks = usage.at_once(form.openmetrics) if form.parts == _USAGE and database.up else None
        if chunks is None:
            return None
        if form.openmetrics:
            chunks.append(last)
        size = _size(chunks)
        return _body(chunks, size, form.gzip) if size <= _OFF_LOOP_FROM else None

    last = Chunk(_LAST)
    made = Shared(make)

    async def scrape(request: web.Request, caller: Caller) -> web.StreamResponse:
        asked = frozenset(request.query.getall("collect[]", []))
        if unknown := sorted(asked - set(PARTS)):
            errors = [FieldError("collect[]", f"unknown: {part[:50]!r}") for part in unknown]
            return problem(400, "there are no such parts", errors=errors)
        parts = asked or frozenset(PARTS if leading() else ("health",))
        openmetrics = wants_openmetrics(request.headers.get(hdrs.ACCEPT, ""))
        gzip = takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, ""))
        form = _Form(parts, openmetrics, gzip)
        body = at_once(form) or await made(form)
        headers = {
            hdrs.VARY: f"{hdrs.ACCEPT}, {hdrs.ACCEPT_ENCODING}",
            hdrs.CONTENT_TYPE: _OPENMETRICS if openmetrics else CONTENT_TYPE_PLAIN_0_0_4,
        }
        if body.gzip:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return web.Response(body=body.content, headers=headers)

    return [
        Route(
            "GET",
            "/metrics",
            scrape,
            "metrics",
            "Metrics for Prometheus; usage only from the replica that evaluates, unless asked for",
            answers={
                200: Answer(
                    "Text format 0.0.4; OpenMetrics 1.0 if Accept prefers it",
                    content_type="text/plain",
                )
            },
            query=(Query("collect[]", "Only these parts", _PARTS_SCHEMA),),
            faults=(400,),
        )
    ]


def _size(chunks: Sequence[Chunk]) -> int:
    return sum([len(chunk.text) for chunk in chunks])


def _body(chunks: Sequence[Chunk], size: int, gzip: bool) -> _Body:
    if not gzip or size < _GZIP_FROM:
        return _Body(b"".join([chunk.text for chunk in chunks]), False)
    return _Body(gzipped(chunks), True)
