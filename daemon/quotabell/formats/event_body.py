"""One usage event as its sender writes it, checked slowly so that every fault has its name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Annotated, Any, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from quotabell.domain.usage import NAME_MAX
from quotabell.errors import FieldError
from quotabell.formats import json_text
from quotabell.formats.provider_usage import Count, UsageBody

ID_MAX = 1024  # bytes in UTF-8: an id is part of an index key, which Postgres bounds
COST_MAX = Decimal(1_000_000_000)  # USD for one call
TOO_OLD = "tooOld"
"""The message of an event whose day is no longer kept begins with this word and a colon."""

OWN = (
    "inputTokens",
    "cacheReadTokens",
    "cacheWriteTokens",
    "outputTokens",
    "reasoningTokens",
    "otherTokens",
    "totalTokens",
)
USAGES = ("usage", "usageMetadata")

_FREE = Decimal(0)
_COST_UNIT = Decimal("1e-10")
_MILLISECONDS_FROM = 1e11  # larger numbers cannot be seconds before the year 5138


class Bounds(NamedTuple):
    """Between which times events are taken; between ``now`` and ``latest`` they count as now."""

    now: datetime
    latest: datetime
    oldest: datetime


def moment(value: str | float) -> datetime | None:
    """A time in UTC from RFC 3339 (no zone: UTC) or seconds or milliseconds since 1970.

    None: it cannot be understood.
    """
    try:
        if isinstance(value, str):
            at = datetime.fromisoformat(value)
            if at.tzinfo is UTC:
                return at
            return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        seconds = value / 1000 if abs(value) >= _MILLISECONDS_FROM else value
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def money(value: str | Decimal) -> Decimal | None:
    """An amount from its text, rounded to ten decimals. None: negative or out of bounds."""
    try:
        amount = Decimal(value)
    except InvalidOperation:  # an exponent that no amount has
        return None
    if not _FREE <= amount <= COST_MAX:
        return None
    return amount.quantize(_COST_UNIT, ROUND_HALF_EVEN) or _FREE  # -0 is 0


def bad_text(text: str) -> str | None:
    """What keeps a text out of the database, or out of sight; None: nothing."""
    if "\0" in text:
        return "must not contain a NUL byte"
    if text.isspace():
        return "must not be blank"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no character"
    return None


def bad_id(text: str) -> str | None:
    """What is wrong with an id; None: nothing."""
    fault = bad_text(text)
    if fault is None and len(text.encode()) > ID_MAX:
        fault = f"must be at most {ID_MAX} bytes long"
    return fault


def _text(value: str | None) -> str | None:
    if value and (fault := bad_text(value)):
        raise ValueError(fault)
    return value


def _id(value: str | None) -> str | None:
    if value and (fault := bad_id(value)):
        raise ValueError(fault)
    return value


def _amount(value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, json_text.NotANumber):
        raise ValueError("input should be a finite number")
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("input should be a number")
    amount = money(Decimal(value))
    if amount is None:
        raise ValueError(f"input should be between 0 and {COST_MAX}")
    return amount


Name = Annotated[str, Field(max_length=NAME_MAX)]
Amount = Annotated[Decimal, WithJsonSchema({"type": "number", "minimum": 0, "maximum": 10**9})]


class EventBody(BaseModel):
    """Tokens that one call consumed, in disjoint kinds that add up to the total, or ``usage``."""

    model_config = ConfigDict(title="UsageEvent")

    id: str | None = Field(
        None,
        min_length=1,
        max_length=ID_MAX,
        description="of the call; a repeat of (source, id) counts once. Needs a time",
    )
    time: datetime | None = Field(
        None,
        description="RFC 3339, or seconds or milliseconds since 1970; default: now",
        json_schema_extra={"anyOf": list(json_text.TIMES)},
    )
    source: Name | None = Field(None, description="the sender's name for what makes the calls")
    provider: Name = Field(min_length=1)
    model: Name = Field(min_length=1)
    userId: Name | None = None
    inputTokens: Count = Field(None, description="without what is read from or put in the cache")
    cacheReadTokens: Count = None
    cacheWriteTokens: Count = None
    outputTokens: Count = Field(None, description="visible, without reasoning")
    reasoningTokens: Count = None
    otherTokens: Count = None
    totalTokens: Count = Field(None, description="what it has beyond the kinds counts as other")
    costUsd: Annotated[Amount | None, BeforeValidator(_amount)] = None
    usage: UsageBody | None = Field(
        None, description="the provider's own object, instead of the …Tokens fields"
    )
    usageMetadata: UsageBody | None = Field(None, description="the same under Gemini's name")

    _texts = field_validator("provider", "model", "source", "userId")(_text)
    _ids = field_validator("id")(_id)

    @field_validator("time", mode="before")
    @classmethod
    def _time(cls, value: Any, info: ValidationInfo) -> datetime | None:
        if value is None:
            return None
        if isinstance(value, bool | json_text.NotANumber) or not isinstance(
            value, int | Decimal | str
        ):
            raise ValueError("must be an RFC 3339 time or a number of seconds or milliseconds")
        at = moment(float(value) if isinstance(value, Decimal) else value)
        if at is None:
            raise ValueError("is not a time that can be understood")
        bounds = info.context
        assert isinstance(bounds, Bounds)
        if at > bounds.latest:
            raise ValueError("lies too far in the future")
        if at < bounds.oldest:
            raise ValueError(f"{TOO_OLD}: lies before {bounds.oldest.isoformat()}")
        return at


def check(raw: bytes, bounds: Bounds) -> tuple[EventBody | None, list[FieldError]]:
    """An item from its JSON, or every fault that single fields and missing ones show.

    Raises Malformed for what is not JSON, TooLarge for too much of it.
    """
    json_text.parse(raw)
    item = json.loads(
        raw.decode("utf-8-sig"),
        parse_float=_exact,
        parse_constant=lambda _: json_text.NotANumber("nan"),
    )
    if not isinstance(item, dict):
        return None, [FieldError("", "must be an object")]
    try:
        body, faults = EventBody.model_validate(item, context=bounds), []
    except ValidationError as error:
        body, faults = None, json_text.field_errors(error)
    return body, faults + _clashes(item)


def _exact(text: str) -> Decimal | json_text.NotANumber:
    try:
        return Decimal(text)
    except InvalidOperation:
        return json_text.NotANumber("nan")


def _clashes(item: Mapping[str, Any]) -> list[FieldError]:
    faults = []
    if item.get("id") is not None and item.get("time") is None:
        faults.append(FieldError("time", "is required with an id: it says on which day"))
    own = [name for name in OWN if item.get(name) is not None]
    usages = [name for name in USAGES if item.get(name) is not None]
    if not own and not usages:
        counts = ", ".join(OWN)
        faults.append(FieldError("", f"no tokens are given: one of {counts} or usage is required"))
    if own and usages:
        faults.append(FieldError(usages[0], f"repeats what {own[0]} says; send only one of them"))
    if len(usages) > 1:
        faults.append(FieldError(usages[1], f"repeats what {usages[0]} says; send only one"))
    return faults
