"""For whoever runs the daemon: probes, metrics, configuration."""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import hdrs, web
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from quotabell.errors import ConfigError, FieldError, Rejected
from quotabell.http.auth import Caller
from quotabell.http.problem import problem
from quotabell.http.route import Answer, Query, Route
from quotabell.metrics import Metrics
from quotabell.service.exposition import UsageExposition
from quotabell.store.database import Database

PARTS = ("usage", "health")
_PARTS_SCHEMA = {"type": "array", "items": {"enum": list(PARTS)}}
_PLAIN = "text/plain"
_GZIP_LEVEL = 1
_NEVER = re.compile(r"q=0(\.0*)?")
_GZIP_FROM = 1_000  # bytes; below it the header costs more than it saves
_OFF_LOOP_FROM = 128 * 1024


def routes(
    database: Database,
    metrics: Metrics,
    usage: UsageExposition,
    *,
    leading: Callable[[], bool],
    redacted: Callable[[], dict[str, Any]],
    reload: Callable[[], Awaitable[None]],
    ready: Callable[[], bool],
) -> list[Route]:
    """The routes of this resource."""

    async def scrape(request: web.Request, caller: Caller) -> web.StreamResponse:
        parts = _parts(request)
        chunks = []
        if "health" in parts:
            metrics.database_up.set(database.up)
            metrics.clock_offset.set(database.clock.offset)
            chunks.append(metrics.render())
        if "usage" in parts and database.up:
            chunks += await usage.render()
        return await _text(request, b"".join(chunks))

    def _parts(request: web.Request) -> set[str]:
        asked = set(request.query.getall("collect[]", []))
        if unknown := asked - set(PARTS):
            raise Rejected([FieldError("collect[]", f"unknown: {min(unknown)[:50]!r}")])
        return asked or {"health"} | ({"usage"} if leading() else set())

    async def healthy(request: web.Request, caller: Caller) -> web.StreamResponse:
        return web.Response(text="Quotabell is healthy.\n")

    async def is_ready(request: web.Request, caller: Caller) -> web.StreamResponse:
        if ready() and database.up:
            return web.Response(text="Quotabell is ready.\n")
        return web.Response(
            status=503, text="Quotabell is not ready.\n", headers={hdrs.RETRY_AFTER: "1"}
        )

    async def config(request: web.Request, caller: Caller) -> web.StreamResponse:
        return web.Response(body=msgspec.json.encode(redacted()), content_type="application/json")

    async def do_reload(request: web.Request, caller: Caller) -> web.StreamResponse:
        try:
            await reload()
        except ConfigError as error:
            return problem(
                422,
                "the configuration cannot be used; the old one stays in force",
                errors=[_key_and_text(line) for line in error.problems],
            )
        return web.Response(status=204)

    return [
        Route(
            "GET",
            "/metrics",
            scrape,
            "metrics",
            "Metrics for Prometheus; usage only from the replica that evaluates, unless asked for",
            answers={200: Answer("Text format 0.0.4", content_type=_PLAIN)},
            query=(Query("collect[]", "Only these parts", _PARTS_SCHEMA),),
        ),
        Route(
            "GET",
            "/-/healthy",
            healthy,
            None,
            "Whether the daemon runs",
            answers={200: Answer("It does", content_type=_PLAIN)},
        ),
        Route(
            "GET",
            "/-/ready",
            is_ready,
            None,
            "Whether the daemon takes traffic",
            answers={
                200: Answer("It does", content_type=_PLAIN),
                503: Answer("It starts, stops or has no database", content_type=_PLAIN),
            },
        ),
        Route(
            "GET",
            "/-/config",
            config,
            "admin",
            "The configuration, without secrets",
            answers={200: Answer("By key", dict[str, Any])},
        ),
        Route(
            "POST",
            "/-/reload",
            do_reload,
            "admin",
            "Reload the configuration",
            answers={204: Answer("It is in force")},
            faults=(422, 503),
        ),
    ]


def _key_and_text(line: str) -> FieldError:
    key, _, text = line.partition(": ")
    return FieldError(key, text) if text else FieldError("", line)


async def _text(request: web.Request, text: bytes) -> web.Response:
    headers: dict[str, str] = {hdrs.VARY: hdrs.ACCEPT_ENCODING}
    if len(text) >= _GZIP_FROM and _takes_gzip(request):
        headers[hdrs.CONTENT_ENCODING] = "gzip"
        text = await _gzip(text)
    headers[hdrs.CONTENT_TYPE] = CONTENT_TYPE_PLAIN_0_0_4
    return web.Response(body=text, headers=headers)


def _takes_gzip(request: web.Request) -> bool:
    """Whether Accept-Encoding names gzip without a weight of 0 (RFC 9110 §12.5.3)."""
    for choice in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower().split(","):
        name, _, weight = choice.partition(";")
        if name.strip() == "gzip":
            return not _NEVER.fullmatch(weight.strip())
    return False


async def _gzip(text: bytes) -> bytes:
    def compress() -> bytes:
        deflater = zlib.compressobj(_GZIP_LEVEL, wbits=31)
        return deflater.compress(text) + deflater.flush()

    return await asyncio.to_thread(compress) if len(text) > _OFF_LOOP_FROM else compress()
