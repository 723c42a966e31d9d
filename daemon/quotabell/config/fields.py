"""The types of single values, and what is said when a value does not fit.

Messages are for the person who wrote the file: they name what is accepted. Types of secrets
never put their value into a message, a repr or a dump.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    ValidationInfo,
)

from quotabell.config import dsn, net, units

Scope = Literal["ingest", "read", "push", "metrics", "admin"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
MIN_TOKEN_LENGTH = 16

_INTEGER = re.compile(r"[+-]?[0-9][0-9_]{0,18}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]{1,18})?")
_TOKEN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_T = TypeVar("_T", int, float, timedelta)


@dataclass(frozen=True, slots=True)
class Place:
    """What relative paths and ``~`` of a file mean; passed as the validation context."""

    base: Path
    home: str | None

    def locate(self, text: str) -> Path:
        """The absolute path meant by ``text``; raises ValueError if there is none."""
        if not text or "\0" in text:
            raise ValueError("must be a path")
        if self.home and (text == "~" or text.startswith("~/")):
            return Path(self.home, text[2:])
        try:
            return self.base / Path(text).expanduser()
        except RuntimeError:
            raise ValueError("~ cannot be resolved: no such home directory") from None


def between(low: _T, high: _T) -> AfterValidator:
    """Bounds of a number or duration, both ends included."""

    def check(value: _T) -> _T:
        if not low <= value <= high:
            raise ValueError(f"must be from {_shown(low)} to {_shown(high)}, not {_shown(value)}")
        return value

    return AfterValidator(check)


def never_or(low: timedelta, high: timedelta) -> AfterValidator:
    """Bounds of a duration of which 0 stands for never."""

    def check(value: timedelta) -> timedelta:
        if value and not low <= value <= high:
            raise ValueError(
                f"must be 0, or from {_shown(low)} to {_shown(high)}, not {_shown(value)}"
            )
        return value

    return AfterValidator(check)


def bytes_between(low: int, high: int) -> AfterValidator:
    """Bounds of a size, both ends included."""

    def check(value: int) -> int:
        if not low <= value <= high:
            ends = f"{units.format_size(low)} to {units.format_size(high)}"
            raise ValueError(f"must be from {ends}, not {units.format_size(value)}")
        return value

    return AfterValidator(check)


def _shown(value: float | timedelta) -> str:
    return units.format_duration(value) if isinstance(value, timedelta) else f"{value:.15g}"


def _whole(value: object) -> object:
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 10**18:
        raise ValueError("must be a whole number")
    return value


def _number(value: object) -> object:
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        return float(value)
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e18:
        raise ValueError("must be a number")  # NaN too: it is below nothing
    return float(value)


def _truth(value: object) -> object:
    if isinstance(value, str) and value in ("true", "false"):
        return value == "true"
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def located(value: object, info: ValidationInfo) -> Path:
    """The path that a file names, as it is meant there; raises ValueError for anything else."""
    if isinstance(value, str):
        context = info.context
        place = context if isinstance(context, Place) else Place(Path.cwd(), os.environ.get("HOME"))
        return place.locate(value)
    if not isinstance(value, Path):
        raise ValueError("must be a path")
    return value


def _readable(value: Path) -> Path:
    try:
        if value.exists() and not value.is_file():  # opening a pipe would wait for its writer
            raise ValueError(f"{value} is no file")
        with value.open("rb"):
            return value
    except OSError as error:
        raise ValueError(f"cannot read {value}: {error.strerror}") from None


def shown_as(show: Callable[[Any], Any]) -> PlainSerializer:
    """How a value appears in the redacted configuration, which is JSON."""
    return PlainSerializer(show, when_used="json")


def _postgres_url(value: SecretStr) -> SecretStr:
    if value.get_secret_value():
        dsn.check_postgres_url(value.get_secret_value())
    return value


def _listen_url(value: SecretStr) -> SecretStr:
    return value if value.get_secret_value() == "off" else _postgres_url(value)


def _off(value: object) -> object:
    return "off" if value is False else value  # YAML 1.1 reads a bare off as false


def _shown_url(value: SecretStr) -> str:
    text = value.get_secret_value()
    return text if text == "off" else dsn.without_password(text)


def _token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text:
        raise ValueError("is empty")
    if not all("!" <= c <= "~" for c in text):
        raise ValueError("must be visible ASCII characters without spaces, to fit into a header")
    if len(text) < MIN_TOKEN_LENGTH:
        raise ValueError(
            f"is shorter than {MIN_TOKEN_LENGTH} characters and so can be guessed; "
            "make one with: openssl rand -hex 32"
        )
    return value


def _token_name(value: str) -> str:
    if not _TOKEN_NAME.fullmatch(value):
        raise ValueError(
            "must be 1 to 64 letters, digits, hyphens, dots or underscores, "
            "and begin with a letter or digit"
        )
    if value == "local":
        raise ValueError("'local' is kept for reports that come without a token")
    if value == "jwt":
        raise ValueError("'jwt' is kept for reports that come with a signed token")
    return value


def _user(value: str) -> str:
    if not 1 <= len(value) <= 200 or not value.isprintable() or value != value.strip():
        raise ValueError("must be 1 to 200 printable characters, without spaces at the ends")
    return value


def _scope(value: object) -> object:
    if value not in SCOPES:
        named = repr(value[:40]) if isinstance(value, str) else "this"
        raise ValueError(f"{named} is no scope; known: {', '.join(SCOPES)}")
    return value


def _some_scopes(values: tuple[Scope, ...]) -> tuple[Scope, ...]:
    if not values:
        raise ValueError(f"must hold at least one of {', '.join(SCOPES)}")
    return tuple(dict.fromkeys(values))


def _contact(value: str) -> str:
    net.check_contact(value)
    return value


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) > 100:
        raise ValueError(f"must hold at most 100 percentages, not {len(values)}")
    return tuple(sorted(set(values)))


def _percentage(value: float) -> float:
    if not 0 < value <= 1000:
        raise ValueError(f"must be above 0 and at most 1000 percent, not {value:.15g}")
    return value


# Numbers and booleans also as text, because that is what ${VAR} gives.
Whole = Annotated[int, BeforeValidator(_whole)]
Number = Annotated[float, BeforeValidator(_number)]
Truth = Annotated[bool, BeforeValidator(_truth)]
Duration = Annotated[
    timedelta, BeforeValidator(units.parse_duration), shown_as(units.format_duration)
]
Size = Annotated[int, BeforeValidator(units.parse_size), shown_as(units.format_size)]
Located = Annotated[Path, BeforeValidator(located)]
ReadableFile = Annotated[Located, AfterValidator(_readable)]

Listen = Annotated[net.Address, PlainValidator(net.parse_listen), shown_as(str)]
PostgresUrl = Annotated[SecretStr, AfterValidator(_postgres_url), shown_as(_shown_url)]
ListenUrl = Annotated[
    SecretStr, BeforeValidator(_off), AfterValidator(_listen_url), shown_as(_shown_url)
]
TokenName = Annotated[str, AfterValidator(_token_name)]
TokenSecret = Annotated[SecretStr, AfterValidator(_token), shown_as(lambda _: "<secret>")]
Scopes = Annotated[
    tuple[Annotated[Scope, BeforeValidator(_scope)], ...], AfterValidator(_some_scopes)
]
User = Annotated[str, AfterValidator(_user)]
Percentages = Annotated[
    tuple[Annotated[Number, AfterValidator(_percentage)], ...],
    AfterValidator(_ascending),
]
Contact = Annotated[str, AfterValidator(_contact)]
HostPattern = Annotated[str, AfterValidator(net.parse_host_pattern)]
Origin = Annotated[str, AfterValidator(net.parse_origin)]
ExternalUrl = Annotated[str, AfterValidator(net.parse_external)]
