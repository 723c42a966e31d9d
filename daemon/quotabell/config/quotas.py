"""Quotas as a configuration writes them down."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypedDict, get_args
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BeforeValidator, Field

from quotabell.config import units
from quotabell.config.base import Section, part
from quotabell.config.fields import Percentages, shown_as
from quotabell.config.problems import Loc, key_path

Dimension = Literal["provider", "model", "user"]
Audience = Literal["owner", "operators", "everyone"]
Kind = Literal["input", "cache_read", "cache_write", "output", "reasoning", "other"]
Weighed = Literal[Kind, "request"]

MAX_LIMIT = 2**63 - 1  # what a bigint holds
MAX_PATTERN = 200  # characters, as of the names that it is for
MAX_BLOCK = timedelta(days=366)
MAX_WEIGHT = 1000
CALENDAR = {
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=31),
}

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BLOCK = re.compile(r"([1-9][0-9]{0,4})h")
_WHOLE = re.compile(r"[+-]?[0-9]{1,40}(?:_[0-9]{1,40}){0,13}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,40})?")
_DECIMAL_PLACES = 18
_LEAVE_OUT = "leave the key out to match everything"
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"
)
# Files beside the IANA zones: another machine has another one, or one that counts leap seconds.
_NO_ZONES = ("posix/", "right/", "localtime", "posixrules", "Factory")


def window_length(window: object) -> timedelta | None:
    """How long a window is at most, clock changes aside; None if it is no window."""
    if not isinstance(window, str):
        return None
    if window in CALENDAR:
        return CALENDAR[window]
    block = _BLOCK.fullmatch(window)
    length = timedelta(hours=int(block[1])) if block else MAX_BLOCK * 2
    return length if length <= MAX_BLOCK else None


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 64 letters, digits, hyphens, dots or underscores")
    if value.startswith("reported"):
        raise ValueError("must not begin with 'reported', which names what providers report")
    return value


def _pattern(value: str) -> str:
    if len(value) > MAX_PATTERN:
        raise ValueError(f"must be at most {MAX_PATTERN} characters, not {len(value)}")
    return value


def _some_text(value: str) -> str:
    if not value:
        raise ValueError(f"is empty; {_LEAVE_OUT}")
    return _pattern(value)


def _one_or_more(check: Callable[[str], str]) -> BeforeValidator:
    def listed(value: object) -> object:
        if isinstance(value, str):
            return [check(value)]  # here, so that the fault is not told of an item
        if not isinstance(value, list | tuple):
            number = isinstance(value, bool | int | float)
            raise ValueError(f"must be text or a list{'; put it in quotes' if number else ''}")
        if not value:
            raise ValueError(f"must hold at least one pattern; {_LEAVE_OUT}")
        return value

    return BeforeValidator(listed)


def _limit(value: object) -> object:
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("must be a whole number of tokens, such as 2_000_000")
    if not 0 < value <= MAX_LIMIT:
        raise ValueError(f"must be from 1 to {MAX_LIMIT}")
    return value


def _window(value: object) -> object:
    if window_length(value) is None:
        days = MAX_BLOCK.days
        raise ValueError(
            "must be hour, day, week, month, or a number of hours such as 5h, "
            f"at most {days} days ({days * 24}h)"
        )
    return value


def _anchor(value: object) -> object:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    try:
        if not isinstance(value, str) or not _TIME.fullmatch(value):
            raise ValueError
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be a time with its zone, such as 2026-01-01T03:00:00Z") from None


def _timezone(value: str) -> str:
    try:
        if not value.startswith(_NO_ZONES) and ZoneInfo(value):
            return value
    except (LookupError, ValueError, OSError):
        pass
    zones = [zone for zone in available_timezones() if not zone.startswith(_NO_ZONES)]
    if not zones:
        raise ValueError("this machine knows no time zones; install tzdata")
    text = "must be an IANA time zone, such as Europe/Berlin"
    close = {zone.lower(): zone for zone in zones}
    near = get_close_matches(value[:64].lower(), close, n=1)
    raise ValueError(f"{text}; did you mean {close[near[0]]}?" if near else text)


def _weight(value: object) -> object:
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError("must be a number")
    # The text of a float is the shortest one that means it: what was written, unless there
    # were more digits than it holds.
    weight = Decimal(str(value)) if isinstance(value, float) else Decimal(value)
    if not weight.is_finite() or not 0 <= weight <= MAX_WEIGHT:
        raise ValueError(f"must be from 0 to {MAX_WEIGHT}")
    if weight != weight.quantize(Decimal(1).scaleb(-_DECIMAL_PLACES)):
        raise ValueError(f"must have at most {_DECIMAL_PLACES} decimal places")
    return abs(weight)  # of -0


def _once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


Limit = Annotated[int, BeforeValidator(_limit)]
Patterns = Annotated[
    tuple[Annotated[str, AfterValidator(_some_text)], ...], _one_or_more(_some_text)
]
UserPatterns = Annotated[  # "" is the usage of nobody in particular
    tuple[Annotated[str, AfterValidator(_pattern)], ...], _one_or_more(_pattern)
]
Weight = Annotated[Decimal, BeforeValidator(_weight), shown_as(lambda weight: f"{weight:f}")]


class QuotaMatch(Section):
    """Whose usage is meant, by shell patterns; a key that is left out matches everything."""

    provider: Patterns = ("*",)
    model: Patterns = ("*",)
    user: UserPatterns = ("*",)


class Override(Section):
    """Another limit for those who match; of several the first counts."""

    match: QuotaMatch
    limit: Limit


class Weights(Section):
    """How many tokens of the limit one token of a kind takes, or one request."""

    input: Weight = Decimal(1)
    cache_read: Weight = Decimal(1)
    cache_write: Weight = Decimal(1)
    output: Weight = Decimal(1)
    reasoning: Weight = Decimal(1)
    other: Weight = Decimal(1)
    request: Weight = Decimal(0)


class QuotaValues(TypedDict):
    """A quota in plain values: the arguments of ``domain.quotas.quota_of``."""

    name: str
    match: dict[str, tuple[str, ...]]
    per: tuple[Dimension, ...]
    limit: int
    overrides: list[tuple[dict[str, tuple[str, ...]], int]]
    window: str
    anchor: datetime | None
    timezone: str
    weights: dict[Weighed, Decimal]
    thresholds: tuple[float, ...] | None
    notify: tuple[Audience, ...]


class Quota(Section):
    """A limit: what it matches, per whom it counts, how much, and over which time."""

    name: Annotated[str, AfterValidator(_name)]
    match: QuotaMatch = QuotaMatch()
    per: Annotated[tuple[Dimension, ...], AfterValidator(_once)] = ()
    limit: Limit
    overrides: tuple[Override, ...] = ()
    window: Annotated[str, BeforeValidator(_window)]
    anchor: Annotated[datetime, BeforeValidator(_anchor)] | None = None
    timezone: Annotated[str, AfterValidator(_timezone), Field(validate_default=True)] = "UTC"
    weights: Weights = Weights()
    thresholds: Percentages | None = None
    notify: Annotated[tuple[Audience, ...], AfterValidator(_once)] = ("owner", "operators")

    @classmethod
    def contradictions(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
        window = raw.get("window")
        if window_length(window) is not None:
            anchor, timezone = raw.get("anchor"), raw.get("timezone")
            if window in CALENDAR and isinstance(anchor, str | datetime):
                yield ("anchor",), f"is for windows such as 24h; a {window} begins by the calendar"
            if window not in CALENDAR and isinstance(timezone, str) and timezone != "UTC":
                yield ("timezone",), f"is for windows of the calendar; {window} begins at anchor"
        yield from _limits_of_nobody(raw.get("overrides"), raw.get("per", ()))

    def values(self) -> QuotaValues:
        """What the domain makes its quota of."""
        return QuotaValues(
            name=self.name,
            match=self.match.model_dump(),
            per=self.per,
            limit=self.limit,
            overrides=[(o.match.model_dump(), o.limit) for o in self.overrides],
            window=self.window,
            anchor=self.anchor,
            timezone=self.timezone,
            weights={kind: getattr(self.weights, kind) for kind in get_args(Weighed)},
            thresholds=self.thresholds,
            notify=self.notify,
        )


def contradictions(quotas: object, retention: timedelta) -> Iterator[tuple[Loc, str]]:
    """Rules between quotas, and with ``retention``, for how long events are kept.

    ``quotas`` is the list as it was given; the places start at the top of the file.
    """
    names: dict[str, int] = {}
    for i, quota in enumerate(quotas if isinstance(quotas, list | tuple) else ()):
        name, length = part(quota, "name"), window_length(part(quota, "window"))
        if isinstance(name, str) and names.setdefault(name, i) != i:
            first = key_path(("quotas", names[name]))
            yield ("quotas", i, "name"), f"{name[:64]!r} is the name of {first} already"
        if length is not None and length > retention:
            kept, needed = units.format_duration(retention), units.format_duration(length)
            yield (
                ("quotas", i, "window"),
                f"is longer than events are kept (retention.events: {kept}), so it could not be "
                f"counted again; keep them for {needed} or more",
            )


def _limits_of_nobody(overrides: object, per: object) -> Iterator[tuple[Loc, str]]:
    if not isinstance(overrides, list | tuple) or not isinstance(per, list | tuple):
        return
    for i, override in enumerate(overrides):
        match = part(override, "match", {})
        for key in get_args(Dimension):
            found = part(match, key, "*")
            patterns = [found] if isinstance(found, str) else found
            if key not in per and isinstance(patterns, list | tuple) and "*" not in patterns:
                yield (
                    ("overrides", i, "match", key),
                    f"cannot have a limit of its own, because the quota does not count per {key}; "
                    f"add {key} to per",
                )
