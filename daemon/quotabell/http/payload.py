"""Bodies, queries and answers of the routes that are not on the hot path."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec
from aiohttp import ETag, hdrs, web
from pydantic import BaseModel, ValidationError

from quotabell.domain.usage import NAME_MAX
from quotabell.errors import FieldError, Malformed, Rejected
from quotabell.formats import json_text
from quotabell.http import body
from quotabell.http.route import Answer, Query

MAX_BODY = 64 * 1024  # bytes
PAGE = 50
MAX_PAGE = 500

PAGING = (
    Query(
        "limit",
        "How many at most",
        {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": PAGE},
    ),
    Query("cursor", "The nextCursor of the part before", {"type": "string"}),
)

UNCHANGED = {304: Answer("It is as If-None-Match has it")}

M = TypeVar("M", bound=BaseModel)
P = TypeVar("P")
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]

_encode = msgspec.json.Encoder(decimal_format="number").encode


async def read(request: web.Request, model: type[M]) -> M:
    """The body as ``model``; raises Malformed, TooLarge, UnsupportedType or Rejected."""
    body.expect_json(request)
    value, strict = json_text.parse(bytes(await body.read(request, MAX_BODY)))
    if not isinstance(value, dict):
        raise Rejected([FieldError("", "must be an object")])
    try:
        checked = model.model_validate(value)
    except ValidationError as error:
        raise Rejected(json_text.field_errors(error)) from None
    if not strict:
        raise Malformed("broken JSON: NaN and Infinity are not JSON")
    return checked


def answer(value: Any, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(status=status, body=_encode(value), content_type="application/json")


def listed(
    request: web.Request, items: Sequence[Any], cursor: tuple[Any, ...] | None
) -> web.Response:
    """A list, or 304 for a client that has these items already (RFC 9110 §13.1.2).

    ``cursor``: where the next part begins, None: this is the last. The entity tag is weak:
    it says that the items are the same, while a cursor may be another that leads on as well.
    """
    text = encode_cursor(cursor) if cursor else None
    encoded = _encode({"items": items, "nextCursor": text})
    told = _encode(items) if text else encoded
    tag = ETag(hashlib.blake2b(told, digest_size=12).hexdigest(), is_weak=True)
    known = request.if_none_match or ()
    if any(other.value in (tag.value, "*") for other in known):
        reply = web.Response(status=304)
    else:
        reply = web.Response(body=encoded, content_type="application/json")
    reply.etag = tag
    # What one token may see is nobody else's, and may have changed at any time.
    reply.headers[hdrs.CACHE_CONTROL] = "private, no-cache"
    return reply


def identifier(request: web.Request) -> UUID:
    """The ``{id}`` of the path; Rejected if it is no UUID."""
    try:
        return UUID(request.match_info["id"])
    except ValueError:
        raise Rejected([FieldError("id", "must be a UUID")]) from None


def parameter(request: web.Request, name: str) -> str | None:
    """A text of the query; Rejected if nothing that is stored could equal it."""
    value = request.query.get(name)
    if value is not None and (len(value) > NAME_MAX or re.search("[\0\ud800-\udfff]", value)):
        raise Rejected([FieldError(name, f"must be text of at most {NAME_MAX} characters")])
    return value


class Page:
    """What part of a list is asked for: ``?limit=`` and the ``nextCursor`` of the part before."""

    def __init__(self, request: web.Request) -> None:
        self._request = request
        text = request.query.get("limit", str(PAGE))
        self.limit = int(text) if re.fullmatch("[0-9]{1,6}", text) else 0
        if not 1 <= self.limit <= MAX_PAGE:
            raise Rejected([FieldError("limit", f"must be a number from 1 to {MAX_PAGE}")])
        self.after: tuple[datetime, UUID] | None = None
        if cursor := request.query.get("cursor"):
            self.after = _position(cursor)

    def answer(self, items: Sequence[dict[str, Any]]) -> web.Response:
        """``items`` are up to ``limit + 1`` rows with ``createdAt`` and ``id``, newest first."""
        shown = items[: self.limit]
        cursor = None
        if len(items) > self.limit:
            cursor = (shown[-1]["createdAt"], shown[-1]["id"])
        return listed(self._request, shown, cursor)


def encode_cursor(position: tuple[Any, ...]) -> str:
    """A position in a list as text that clients hand back without looking into it."""
    return base64.urlsafe_b64encode(_encode(position)).decode()


def decode_cursor(cursor: str, model: type[P]) -> P:
    """A position that `encode_cursor` made, or somebody else; ValueError if it is none."""
    return msgspec.json.decode(base64.urlsafe_b64decode(cursor.encode("ascii")), type=model)


def _position(cursor: str) -> tuple[datetime, UUID]:
    try:
        return decode_cursor(cursor, tuple[_Moment, UUID])
    except ValueError:
        raise Rejected([FieldError("cursor", "is not one that this list gave")]) from None


def camel(row: Any) -> dict[str, Any]:
    """A row's columns under the names of the API."""
    return {camel_name(name): value for name, value in row.items()}


def camel_name(name: str) -> str:
    """A column's name as the API has it."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
