"""Error answers as RFC 9457 problem documents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec
from aiohttp import web

from quotabell.errors import (
    Conflict,
    FieldError,
    Malformed,
    QuotabellError,
    Refused,
    Rejected,
    TooLarge,
    Unavailable,
    UnsupportedType,
)
from quotabell.http.buckets import TooMany
from quotabell.http.connection import TooSlow


class NotFound(QuotabellError):
    """There is nothing with this id."""


class Taken(QuotabellError):
    """This belongs to somebody else already."""


class Over(QuotabellError):
    """This has ended already."""


CONTENT_TYPE = "application/problem+json"
SHOWN_ERRORS = 1_000


class Fault(msgspec.Struct, omit_defaults=True):
    """An offending field; ``index``: of the item, where the body is an array."""

    field: str
    message: str
    index: int | None = None


class Problem(msgspec.Struct, rename="camel", omit_defaults=True):
    """A problem document (RFC 9457). ``errors`` and ``errorsLeftOut`` add up to all faults."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[Fault] = []
    errors_left_out: int = 0


_STATUS: Mapping[type[QuotabellError], int] = {
    Malformed: 400,
    NotFound: 404,
    TooSlow: 408,
    Taken: 409,
    Over: 409,
    TooLarge: 413,
    UnsupportedType: 415,
    Rejected: 422,
    Refused: 422,
    TooMany: 429,
    Conflict: 503,
    Unavailable: 503,
}


def problem(
    status: int,
    detail: str,
    *,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """A problem document; ``errors`` lists every offending field."""
    body = Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        errors=[Fault(e.path, e.message, e.index) for e in errors[:SHOWN_ERRORS]],
        errors_left_out=max(0, len(errors) - SHOWN_ERRORS),
    )
    return web.Response(
        status=status,
        body=msgspec.json.encode(body),
        content_type=CONTENT_TYPE,
        headers=headers,
    )


def from_error(error: QuotabellError) -> web.Response:
    """The answer to an error of the product; one without an answer of its own is a 500."""
    if isinstance(error, Refused | Conflict):  # their words are the database's, not for strangers
        error = type(error)()
    status = _STATUS.get(type(error), 500)
    if status == 500:
        return problem(500, "the daemon could not do this; its log says why")
    errors = error.errors if isinstance(error, Rejected) else ()
    headers = None
    if status in (429, 503):
        retry_after = error.retry_after if isinstance(error, Unavailable | TooMany) else 1.0
        headers = {"Retry-After": str(math.ceil(retry_after))}
    return problem(status, str(error), errors=errors, headers=headers)
