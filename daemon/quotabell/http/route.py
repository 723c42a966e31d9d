"""A route as data: what its path does, who may use it, and what its description tells."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiohttp import web

from quotabell.http.auth import Caller

Handler = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]


class Answer(NamedTuple):
    """A good answer. ``model``: what msgspec encodes as JSON, a tuple if it may be one of
    several; None: no body, or text. ``binary``: another type that it has for who sent that."""

    description: str = "Done"
    model: Any = None
    content_type: str = "application/json"
    binary: str | None = None

    @property
    def models(self) -> tuple[Any, ...]:
        """What it may be encoded from."""
        if self.model is None:
            return ()
        return self.model if isinstance(self.model, tuple) else (self.model,)


class Wording(NamedTuple):
    """How refusals are told where not as problem documents. ``tell`` turns such an answer into
    the other; ``content``: JSON Schema by media type."""

    tell: Callable[[web.Request, web.StreamResponse], web.StreamResponse]
    content: dict[str, Any]


class Query(NamedTuple):
    """A parameter of the query. ``schema``: JSON Schema."""

    name: str
    description: str
    schema: dict[str, Any]
    required: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """One operation. ``scope`` None: open to all who reach the daemon.

    What follows the summary only goes into ``/openapi.json``: ``request`` is the type of the
    body that pydantic validates (None: takes no body), ``answers`` the good answers by
    status, ``faults`` statuses of problem answers beside those that follow from the rest,
    ``texts`` and ``binaries`` further types that the body may have.
    ``described`` False: a part of the page, which is no interface for programs. ``visited``: the
    page itself, to which a link of any site may lead.
    """

    method: str
    path: str
    handler: Handler
    scope: str | None
    summary: str
    request: Any = None
    answers: dict[int, Answer] = field(default_factory=lambda: {200: Answer()})
    query: tuple[Query, ...] = ()
    faults: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    binaries: tuple[str, ...] = ()
    described: bool = True
    visited: bool = False
    wording: Wording | None = None
