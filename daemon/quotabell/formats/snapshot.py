"""The body of ``POST /api/token-monitor/update``: one snapshot or an array of them.

A fast decoder accepts what is right; only a body that it refuses is decoded a second
time, slowly, to name every offending field.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from quotabell.domain.usage import BIGINT_MAX, NAME_MAX, Snapshot
from quotabell.errors import FieldError, Malformed, Rejected
from quotabell.formats import items, json_text
from quotabell.formats.json_reader import LARGE, Body, Reader

UNKNOWN_LIMITS = (0, -1)
EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS_FROM = 1e11  # larger numbers cannot be seconds before the year 5138


class Decoded(NamedTuple):
    """The snapshots of a body, and whether it was an array."""

    snapshots: list[Snapshot]
    is_array: bool


class _Wire(msgspec.Struct, rename="camel", gc=False):
    provider: Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_MAX)]
    model: Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_MAX)]
    tokens_used: Annotated[int, msgspec.Meta(ge=0, le=BIGINT_MAX)]
    token_limit: Annotated[int, msgspec.Meta(ge=-1, le=BIGINT_MAX)] | None
    user_id: Annotated[str, msgspec.Meta(max_length=NAME_MAX)] | None = None
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


_decode = msgspec.json.Decoder(_Wire | list[_Wire]).decode
_decode_item = msgspec.json.Decoder(_Wire).decode
_REFUSED = (msgspec.MsgspecError, RecursionError, UnicodeError)


def decode(body: Body, *, now: datetime, future_skew: timedelta, max_batch: int) -> Decoded:
    """The snapshots of a body.

    ``now`` and ``future_skew`` bound timestamps ahead, ``max_batch`` an array's items.
    Raises Malformed for what is not JSON, Rejected with every offending field of every item,
    TooLarge for what is wrong and too large to say where.
    """
    latest = now + future_skew
    if len(body) > LARGE:
        return _apart(body, latest, max_batch)
    body = bytes(body)
    try:
        if not body.isascii():
            body.decode()  # what is skipped is not looked at
        wire = _decode(body)
        reported = wire if isinstance(wire, list) else [wire]
        snapshots = [_snapshot(item, latest) for item in reported]
        if len(reported) > max_batch or not reported or None in snapshots:
            return _explain(body, latest, max_batch)
        return Decoded(snapshots, isinstance(wire, list))  # type: ignore[arg-type]
    except _REFUSED:
        return _explain(body, latest, max_batch)


def _apart(body: Body, latest: datetime, max_batch: int) -> Decoded:
    """A large body, one snapshot after the other."""
    reader = Reader(body)
    is_array = reader.peek() == "["
    found: list[Snapshot] = []
    errors: list[FieldError] = []
    raws = items.elements(reader, max_batch) if is_array else iter([reader.raw()])
    for index, raw in enumerate(raws):
        try:
            found.append(_one(raw, latest))
        except Rejected as error:
            place = index if is_array else None
            errors += [FieldError(e.path, e.message, place) for e in error.errors]
    if reader.peek():
        raise Malformed("broken JSON: something follows the value")
    if errors or not found:
        raise Rejected(errors or [FieldError("", "the array is empty")])
    return Decoded(found, is_array)


def _one(raw: bytes, latest: datetime) -> Snapshot:
    try:
        snapshot = _snapshot(_decode_item(raw), latest)
    except _REFUSED:
        snapshot = None
    return snapshot or _explain(raw, latest, 1).snapshots[0]


def _snapshot(item: _Wire, latest: datetime) -> Snapshot | None:
    """None: something is wrong that the fast decoder does not see."""
    provider, model, user = item.provider, item.model, item.user_id or ""
    at = item.timestamp
    if at is not None:
        if not EARLIEST <= at <= latest:
            return None
        at = at.astimezone(UTC)
    joined = provider + model + user
    if not joined.isprintable() and _bad_text(joined):
        return None
    if provider.isspace() or model.isspace() or user.isspace():
        return None
    limit = item.token_limit
    return Snapshot(
        provider, model, item.tokens_used, None if limit in UNKNOWN_LIMITS else limit, user, at
    )


def _bad_text(text: str) -> str | None:
    if "\0" in text:
        return "must not contain a NUL byte"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no character"
    return None


class SnapshotBody(BaseModel):
    """One snapshot: the provider says that tokensUsed of tokenLimit are used now."""

    model_config = ConfigDict(title="Snapshot")

    provider: str = Field(min_length=1, max_length=NAME_MAX)
    model: str = Field(min_length=1, max_length=NAME_MAX)
    tokensUsed: int = Field(ge=0, le=BIGINT_MAX)
    tokenLimit: int | None = Field(
        ge=-1, le=BIGINT_MAX, description="null, 0 and -1: the limit is not known"
    )
    userId: str | None = Field(None, max_length=NAME_MAX)
    timestamp: datetime | None = Field(
        None,
        description="RFC 3339, or seconds or milliseconds since 1970; default: now",
        json_schema_extra={"anyOf": list(json_text.TIMES)},
    )

    @field_validator("tokensUsed", "tokenLimit", mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        if isinstance(value, bool | str):
            raise ValueError("input should be a number")
        if isinstance(value, json_text.NotANumber):
            raise ValueError("input should be a finite number")
        return value

    @field_validator("provider", "model", "userId")
    @classmethod
    def _text(cls, value: str | None) -> str | None:
        if value and (fault := _bad_text(value)):
            raise ValueError(fault)
        if value and value.isspace():
            raise ValueError("must not be blank")
        return value

    @field_validator("timestamp", mode="before")
    @classmethod
    def _time(cls, value: Any) -> Any:
        if value is None or isinstance(value, datetime):
            return value
        if isinstance(value, bool | json_text.NotANumber) or not isinstance(
            value, int | float | str
        ):
            raise ValueError("must be an RFC 3339 time or a number of seconds or milliseconds")
        try:
            if isinstance(value, str):
                at = datetime.fromisoformat(value)
                return at if at.tzinfo else at.replace(tzinfo=UTC)
            return datetime.fromtimestamp(
                value / 1000 if abs(value) >= _MILLISECONDS_FROM else value, UTC
            )
        except (ValueError, OverflowError, OSError):
            raise ValueError("is not a time that can be understood") from None


def _explain(body: bytes, latest: datetime, max_batch: int) -> Decoded:
    value, strict = json_text.parse(body)
    is_array = isinstance(value, list)
    reported = value if is_array else [value]
    items.bounded(len(reported), max_batch)
    snapshots: list[Snapshot] = []
    errors: list[FieldError] = []
    for position, item in enumerate(reported):
        index = position if is_array else None
        try:
            snapshots.append(_validated(item, latest))
        except ValidationError as error:
            errors += json_text.field_errors(error, index)
        except Rejected as error:
            errors += [FieldError(e.path, e.message, index) for e in error.errors]
    if errors:
        raise Rejected(errors)
    if not strict:
        raise Malformed("broken JSON: NaN and Infinity are not JSON")
    return Decoded(snapshots, is_array)


def _validated(item: Any, latest: datetime) -> Snapshot:
    if not isinstance(item, dict):
        raise Rejected([FieldError("", "must be an object")])
    body = SnapshotBody.model_validate(item)
    at = body.timestamp
    if at is not None:
        if at > latest:
            raise Rejected([FieldError("timestamp", "lies too far in the future")])
        if at < EARLIEST:
            raise Rejected([FieldError("timestamp", "lies before 1970")])
        at = at.astimezone(UTC)
    limit = None if body.tokenLimit in UNKNOWN_LIMITS else body.tokenLimit
    return Snapshot(body.provider, body.model, body.tokensUsed, limit, body.userId or "", at)
