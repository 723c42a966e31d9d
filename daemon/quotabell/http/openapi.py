"""The description of the HTTP interface, made from the routes: OpenAPI 3.1.

It tells nothing that the manual does not, so it is open to all who reach the daemon.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web
from pydantic import TypeAdapter

from quotabell import __version__
from quotabell.http.auth import Caller
from quotabell.http.problem import CONTENT_TYPE, Problem
from quotabell.http.route import Answer, Route

PATH = "/openapi.json"
_SCHEMAS = "#/components/schemas/"
_PARAMETER = re.compile(r"{(\w+)}")
_WITH_BODY = (413, 415, 422)
_TEXT = {"schema": {"type": "string"}}
_UNREAD = frozenset({414, 431})  # answered by the HTTP parser, before any route
_BINARY = {"schema": {"type": "string", "format": "binary"}}

FAULTS: Mapping[int, tuple[str, str]] = {
    400: (
        "Malformed",
        "The body is not what its Content-Type or Content-Encoding says; as text: the request "
        "is no HTTP; of /metrics: there is no such part",
    ),
    401: ("Unauthorized", "Without a token, or with one that is not known"),
    403: ("Forbidden", "The token does not allow this, or another web page caused the request"),
    404: ("NotFound", "There is nothing with this id"),
    409: ("Conflict", "It exists already, belongs to somebody else, or has ended"),
    413: ("TooLarge", "The body is too large, as sent or decompressed"),
    414: ("AddressTooLong", "The address is longer than 8 KiB"),
    415: ("UnsupportedType", "A Content-Type or Content-Encoding that is not read"),
    422: ("Rejected", "Values that cannot be accepted; every offending field is listed"),
    429: (
        "TooMany",
        "Asked too often, or sent too many bad tokens; Retry-After says when to repeat",
    ),
    431: ("HeadTooLarge", "A header field is longer than 16 KiB, or there are more than 128"),
    503: ("Unavailable", "The database is away or too many reports wait; repeat shortly"),
}


def route(others: Iterable[Route]) -> Route:
    """The route that describes the ``others`` and itself."""

    @functools.cache
    def text() -> bytes:
        return msgspec.json.encode(document([*others, own]))

    async def describe(request: web.Request, caller: Caller) -> web.StreamResponse:
        return web.Response(body=text(), content_type="application/json")

    own = Route(
        "GET",
        PATH,
        describe,
        None,
        "This description",
        answers={200: Answer("An OpenAPI 3.1 document", dict[str, Any])},
    )
    return own


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The OpenAPI document of the routes."""
    bodies, schemas = _bodies(routes)
    answers, more = _answers(routes)
    if twice := schemas.keys() & more.keys():
        raise ValueError(f"two models are called {', '.join(sorted(twice))}")
    paths: dict[str, dict[str, Any]] = {}
    for r in routes:
        paths.setdefault(r.path, {})[r.method.lower()] = _operation(r, bodies, answers)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Quotabell",
            "version": __version__,
            "description": "Watches LLM token quotas and rings before they run out.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted((schemas | more).items())),
            "responses": {name: _fault(status, text) for status, (name, text) in FAULTS.items()},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of auth.tokens, or a JWT (auth.jwt), which is bound "
                    "to its user; it needs the scope that an operation names. Without any "
                    "configured, only this machine is answered, and no token is needed.",
                }
            },
        },
    }


def _operation(
    r: Route, bodies: Mapping[int, Any], answers: Mapping[tuple[int, int], Any]
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "summary": r.summary,
        "operationId": _identifier(r),
        "security": [] if r.scope is None else [{"token": [r.scope]}],
    }
    if parameters := _parameters(r):
        found["parameters"] = parameters
    if r.request is not None:
        schema = bodies[id(r)]
        found["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {"schema": schema},
                **dict.fromkeys(r.texts, _TEXT),
                **dict.fromkeys(r.binaries, _BINARY),
            },
        }
    responses: dict[str, Any] = {}
    for status, answer in r.answers.items():
        responses[str(status)] = {"description": answer.description}
        if answer.model is not None:
            schema = answers[id(r), status]
            responses[str(status)]["content"] = {answer.content_type: {"schema": schema}}
        elif status != 204 and answer.content_type != "application/json":
            responses[str(status)]["content"] = {answer.content_type: _TEXT}
        if answer.binary is not None:
            responses[str(status)]["content"][answer.binary] = _BINARY
    for status in sorted(_faults(r)):
        name, meaning = FAULTS[status]
        if r.wording is None or status in _UNREAD:
            responses[str(status)] = {"$ref": f"#/components/responses/{name}"}
        else:
            content = {kind: {"schema": schema} for kind, schema in r.wording.content.items()}
            text = {"text/plain": _TEXT} if status == 400 else {}
            responses[str(status)] = _fault(status, meaning) | {"content": content | text}
    return found | {"responses": responses}


def _identifier(r: Route) -> str:
    words = re.findall(r"\w+", r.path.replace("-", "_"))
    return "_".join([r.method.lower(), *words])


def _parameters(r: Route) -> list[dict[str, Any]]:
    in_path = [
        {
            **{"name": name, "in": "path", "required": True},
            "schema": {"type": "string"} | ({"format": "uuid"} if name == "id" else {}),
        }
        for name in _PARAMETER.findall(r.path)
    ]
    in_query = [
        {"name": q.name, "in": "query", "description": q.description, "schema": q.schema}
        | ({"required": True} if q.required else {})
        for q in r.query
    ]
    return in_path + in_query


def _faults(r: Route) -> set[int]:
    found = {400, 403, *_UNREAD, *r.faults} - r.answers.keys()
    if r.scope is not None:
        found.update((401, 429))
    if r.request is not None:
        found.update(_WITH_BODY)
    if r.query or "{" in r.path:
        found.add(422)
    if "{" in r.path:
        found.add(404)
    return found


def _fault(status: int, text: str) -> dict[str, Any]:
    retry_after = {"Retry-After": {"description": "in seconds", "schema": {"type": "integer"}}}
    headers = {
        401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
        429: retry_after,
        503: retry_after,
    }
    content = {CONTENT_TYPE: {"schema": {"$ref": _SCHEMAS + "Problem"}}}
    if status == 400:
        content["text/plain"] = _TEXT
    if status in _UNREAD:
        content = {"text/plain": _TEXT}
    found: dict[str, Any] = {"description": text, "content": content}
    if status in headers:
        found["headers"] = headers[status]
    return found


def _bodies(routes: Sequence[Route]) -> tuple[dict[int, Any], dict[str, Any]]:
    """The schema of each route's body, and what these refer to."""
    adapters: list[tuple[int, Any, TypeAdapter[Any]]] = [
        (id(r), "validation", TypeAdapter(r.request)) for r in routes if r.request is not None
    ]
    found, shared = TypeAdapter.json_schemas(adapters, ref_template=_SCHEMAS + "{model}")
    return {key: schema for (key, _), schema in found.items()}, shared.get("$defs", {})


def _answers(routes: Sequence[Route]) -> tuple[dict[tuple[int, int], Any], dict[str, Any]]:
    """The schema of each route's good answers, and what these refer to."""
    models = [
        ((id(r), status), model)
        for r in routes
        for status, answer in r.answers.items()
        for model in answer.models
    ]
    made, shared = msgspec.json.schema_components(
        [Problem, *(model for _, model in models)], ref_template=_SCHEMAS + "{name}"
    )
    schemas: dict[tuple[int, int], list[Any]] = {}
    for (key, _), schema in zip(models, made[1:], strict=True):
        schemas.setdefault(key, []).append(schema)
    return {
        key: own[0] if len(own) == 1 else {"anyOf": own} for key, own in schemas.items()
    }, shared
