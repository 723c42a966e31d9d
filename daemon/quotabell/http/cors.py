"""What pages of other origins may ask for (CORS, as the Fetch standard has it).

Only the routes under ``/api/`` that are not for operators, only from origins that the
configuration names, and never with cookies: a page sends its user's token itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from aiohttp import hdrs, web

from quotabell.http.route import Route

_MAX_AGE = "600"  # seconds that a browser remembers a preflight
_HEADERS = "Authorization, Content-Type, Content-Encoding, If-None-Match"
_SHOWN = "ETag, Retry-After, WWW-Authenticate"  # beside those that every page may read


def is_shared(route: Route) -> bool:
    """Whether pages of allowed origins may use a route."""
    return route.path.startswith("/api/") and route.scope not in (None, "admin")


def mark(request: web.Request, response: web.StreamResponse, allowed: Collection[str]) -> None:
    """Let the page that asked read the answer, if it is of an allowed origin."""
    response.headers.add(hdrs.VARY, hdrs.ORIGIN)
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and origin in allowed:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
        response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _SHOWN


def preflight(
    request: web.Request, routes: Iterable[Route], allowed: Collection[str]
) -> web.StreamResponse | None:
    """The answer to a browser that asks beforehand; None if this is no such question.

    It needs no token: browsers send none with it.
    """
    if request.headers.get(hdrs.ORIGIN) not in allowed:
        return None
    asked = request.headers.get(hdrs.ACCESS_CONTROL_REQUEST_METHOD)
    methods = {r.method for r in routes if is_shared(r)}
    if asked is None or not methods:
        return None
    response = web.Response(status=204)
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = ", ".join(sorted(methods))
    response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = _HEADERS
    response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = _MAX_AGE
    return response
