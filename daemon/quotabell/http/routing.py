"""From routes to an application: who may, how faults are answered, what is not there."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence

from aiohttp import hdrs, web

from quotabell.errors import QuotabellError
from quotabell.http import cors, openapi
from quotabell.http.auth import Caller, Forbidden, Gate, Unauthorized
from quotabell.http.bodies import BODIES, Bodies
from quotabell.http.problem import from_error, problem
from quotabell.http.route import Handler, Route
from quotabell.log import Logger

__all__ = ["ROUTES", "Draining", "Route", "mount"]

CHALLENGE = 'Bearer realm="quotabell"'  # RFC 6750 §3
_NOT_QUOTED = re.compile(r"[^ !#-\[\]-~]")  # what error_description may not hold, ibid.
ROUTES = web.AppKey("ROUTES", tuple[Route, ...])


class Draining:
    """Whether the daemon is about to stop: each answer then closes its connection."""

    __slots__ = ("on",)

    def __init__(self) -> None:
        self.on = False


def mount(
    app: web.Application, routes: Iterable[Route], gate: Gate, draining: Draining, log: Logger
) -> None:
    """Add the routes, their description, and problem answers for unknown paths and methods.

    A catch-all instead of a middleware: a middleware would cost every request.
    """
    routes = tuple(routes)
    app[BODIES] = Bodies()
    app[ROUTES] = (*routes, openapi.route([r for r in routes if r.described]))
    by_path: dict[str, list[Route]] = {}
    for route in app[ROUTES]:
        by_path.setdefault(route.path, []).append(route)
    for path, group in by_path.items():
        resource = app.router.add_resource(path)
        for route in group:
            resource.add_route(route.method, _endpoint(route, gate, draining, log))
        methods = {r.method for r in group}
        if "GET" in methods:
            get = next(r for r in group if r.method == "GET")
            resource.add_route("HEAD", _endpoint(get, gate, draining, log))
        wrong, wording = _wrong_method(methods), group[0].wording
        if any(map(cors.is_shared, group)):
            ask = Route("OPTIONS", path, _preflight(group, gate, wrong), None, "preflight")
            resource.add_route("OPTIONS", _endpoint(ask, gate, draining, log, shared=True))
        other = Route("*", path, wrong, None, "wrong method", wording=wording)
        resource.add_route("*", _endpoint(other, gate, draining, log))
    unknown = Route("*", "/{path:.*}", _not_found, None, "unknown path")
    app.router.add_route("*", unknown.path, _endpoint(unknown, gate, draining, log))


def _endpoint(
    route: Route, gate: Gate, draining: Draining, log: Logger, *, shared: bool = False
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    handler, scope, visited = route.handler, route.scope, route.visited
    shared = shared or cors.is_shared(route)

    async def handle(request: web.Request) -> web.StreamResponse:
        response: web.StreamResponse
        try:
            caller = gate.admit(request, scope, shared=shared, visited=visited)
            response = await handler(request, caller)
        except Unauthorized as error:
            response = problem(401, str(error), headers=_challenge(error))
        except Forbidden as error:
            response = problem(403, str(error), headers=_challenge(error))
        except QuotabellError as error:
            response = from_error(error)
            if response.status == 500:
                log.exception("request failed", path=route.path)
        except web.HTTPException:
            raise
        except Exception as error:
            if not (isinstance(error, ConnectionError) and request.transport is None):
                log.exception("request failed", path=route.path)
            # Its client may have gone away, and nobody reads this.
            response = problem(500, "the daemon met an error of its own; its log says which")
        if response.status >= 400 and route.wording is not None:
            response = route.wording.tell(request, response)
        if shared and gate.origins:
            cors.mark(request, response, gate.origins)
        if draining.on:
            response.force_close()
        return response

    return handle


def _challenge(error: Unauthorized | Forbidden) -> dict[str, str]:
    """What is wrong with the token, for programs (RFC 6750 §3). Nothing where none came."""
    if isinstance(error, Unauthorized):
        said = _NOT_QUOTED.sub("", str(error))
        text = f', error="invalid_token", error_description="{said}"' if error.of_token else ""
    elif error.scope is not None:
        text = f', error="insufficient_scope", scope="{error.scope}"'
    else:
        return {}
    return {hdrs.WWW_AUTHENTICATE: CHALLENGE + text}


def _preflight(group: Sequence[Route], gate: Gate, otherwise: Handler) -> Handler:
    async def answer(request: web.Request, caller: Caller) -> web.StreamResponse:
        found = cors.preflight(request, group, gate.origins)
        return found if found is not None else await otherwise(request, caller)

    return answer


def _wrong_method(methods: set[str]) -> Handler:
    allowed = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))

    async def answer(request: web.Request, caller: Caller) -> web.StreamResponse:
        return problem(405, f"this path takes {allowed}", headers={hdrs.ALLOW: allowed})

    return answer


async def _not_found(request: web.Request, caller: Caller) -> web.StreamResponse:
    return problem(404, "there is nothing at this path")
