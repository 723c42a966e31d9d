"""For whoever runs the daemon: probes and configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import hdrs, web

from quotabell.errors import ConfigError, FieldError
from quotabell.http.auth import Caller
from quotabell.http.problem import problem
from quotabell.http.route import Answer, Route
from quotabell.store.database import Database

_PLAIN = "text/plain"


def routes(
    database: Database,
    *,
    redacted: Callable[[], dict[str, Any]],
    reload: Callable[[], Awaitable[None]],
    ready: Callable[[], bool],
) -> list[Route]:
    """The routes of this resource."""

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
