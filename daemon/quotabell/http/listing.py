"""The query of a list: filters, part and limit, with every wrong value told at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TypeVar
from uuid import UUID

from aiohttp import web

from quotabell.domain.matching import ANY, Match
from quotabell.domain.usage import NAME_MAX
from quotabell.errors import FieldError, Rejected
from quotabell.http import payload
from quotabell.http.auth import Caller, Forbidden
from quotabell.http.route import Query

P = TypeVar("P")

MAX_LIMIT = 5_000
_PATTERNS = 50  # alternatives of one filter
_STORABLE = re.compile("[^\0\ud800-\udfff]*")
_PLUS_READ_AS_SPACE = re.compile(r"(.*T.*) (\d\d:?\d\d)")

_TEXT = {"type": "string"}
PATTERN = {
    **{"type": "array", "maxItems": _PATTERNS},
    "items": {"type": "string", "maxLength": NAME_MAX},
}
_TIME = {"type": "string", "format": "date-time"}
FILTERS = tuple(
    Query(name, f"Only where the {what} matches this shell pattern, or one of several", PATTERN)
    for name, what in (
        ("provider", "provider"),
        ("model", "model"),
        ("userId", "user (empty: nobody in particular)"),
        ("quota", "quota"),
    )
)


def choice(name: str, description: str, options: Sequence[str], default: str) -> Query:
    """A parameter that is one of ``options``."""
    return Query(name, description, _TEXT | {"enum": list(options), "default": default})


def moment(name: str, description: str) -> Query:
    """A parameter that is a time."""
    return Query(name, description, _TIME)


def identifier(name: str, description: str, *, required: bool = False) -> Query:
    """A parameter that is a UUID."""
    return Query(name, description, _TEXT | {"format": "uuid"}, required)


def paging(default: int, most: int = MAX_LIMIT) -> tuple[Query, ...]:
    """The parameters of a list that comes in parts."""
    limit = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return (
        Query("limit", "How many at most", limit),
        Query("cursor", "The nextCursor of the part before", _TEXT),
    )


class Asked:
    """Reads a query. What is wrong is collected; `check` raises Rejected if anything is."""

    def __init__(self, request: web.Request) -> None:
        self._query = request.query
        self._errors: list[FieldError] = []

    def check(self) -> None:
        if self._errors:
            raise Rejected(self._errors)

    def wrong(self, name: str, message: str) -> None:
        self._errors.append(FieldError(name, message))

    def choice(self, name: str, options: Sequence[str], default: str) -> str:
        value = self._query.get(name, default)
        if value not in options:
            self.wrong(name, f"must be one of {', '.join(options)}")
        return value

    def whole(self, name: str, default: int, most: int) -> int:
        text = self._query.get(name, str(default))
        value = int(text) if re.fullmatch("[0-9]{1,9}", text) else 0
        if not 1 <= value <= most:
            self.wrong(name, f"must be a number from 1 to {most}")
        return value

    def moment(self, name: str) -> datetime | None:
        """A time; one without a zone is UTC."""
        text = self._query.get(name)
        if text is None:
            return None
        try:
            # A plus that is not percent-encoded arrives as a space.
            value = datetime.fromisoformat(_PLUS_READ_AS_SPACE.sub(r"\1+\2", text))
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.wrong(name, "must be a time like 2026-01-31T12:00:00Z")
            return None

    def uuid(self, name: str, *, required: bool = False) -> UUID | None:
        text = self._query.get(name)
        if text is None and not required:
            return None
        try:
            return UUID(text or "")
        except ValueError:
            self.wrong(name, "must be a UUID")
            return None

    def position(self, model: type[P]) -> P | None:
        """Where the part before ended; ``model``: a NamedTuple of what the cursor holds."""
        cursor = self._query.get("cursor")
        if not cursor:
            return None
        try:
            return payload.decode_cursor(cursor, model)
        except ValueError:
            self.wrong("cursor", "is not one that this list gave")
            return None

    def filters(self, caller: Caller, *, kind: bool = False) -> Match:
        """What the list is to be about. Forbidden where that can be nothing of the caller's."""
        match = Match(
            provider=self._patterns("provider"),
            model=self._patterns("model"),
            user=self._patterns("userId"),
            quota=self._patterns("quota"),
            kind=self._patterns("kind") if kind else ANY,
        )
        if caller.user is not None and not Match(user=match.user).matches(user=caller.user):
            raise Forbidden(f"this token sees what belongs to {caller.user}")
        return match

    def _patterns(self, name: str) -> list[str]:
        found = self._query.getall(name, [ANY])
        if len(found) > _PATTERNS:
            self.wrong(name, f"may be given {_PATTERNS} times at most")
        elif not all(len(text) <= NAME_MAX and _STORABLE.fullmatch(text) for text in found):
            self.wrong(name, f"must be text of at most {NAME_MAX} characters")
        else:
            return found
        return [ANY]
