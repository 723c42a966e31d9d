"""Channels besides Web Push as a configuration writes them down: where messages go, and which."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from importlib.util import find_spec
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from quotabell.config import net
from quotabell.config.base import Section, part, revealed
from quotabell.config.fields import Located, Number, between, shown_as
from quotabell.config.problems import BROKEN, Loc, key_path
from quotabell.config.quotas import Patterns, UserPatterns

ChannelType = Literal["webhook", "alertmanager", "apprise"]

KINDS = ("threshold", "forecast", "stale", "channel")
RESERVED = "webpush"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30})://.")
_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)  # as Standard Webhooks has them
_MAX_SECRETS = 4
_MAKE_ONE = 'make one with: echo "whsec_$(openssl rand -base64 32)"'


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(
            "must be 1 to 64 letters, digits, hyphens, dots or underscores, "
            "and begin with a letter or digit"
        )
    if value == RESERVED:
        raise ValueError(f"{RESERVED!r} is the channel of the browsers")
    return value


def _url_problem(text: str) -> str | None:
    if not text.isascii() or not text.isprintable() or " " in text:
        return "must be visible ASCII characters; encode others in percent"
    return None if _SCHEME.match(text) else "must be a URL, such as https://example.com/hook"


def _problem_for(kind: object, text: str) -> str | None:
    if kind == "apprise":
        return None if _known_to_apprise(text) else "is no URL that Apprise understands"
    return _http_problem(text) if kind in ("webhook", "alertmanager") else None


def _http_problem(text: str) -> str | None:
    try:
        net.parse_origin(_http_origin(text))
    except ValueError:
        return "must be an http: or https: URL with a host that can be read"
    return "must not have a fragment (#…)" if "#" in text else None


def _http_origin(text: str) -> str:
    """Raises ValueError if there is none."""
    parts = urlsplit(text)
    host = parts.hostname or ""
    return (
        f"{parts.scheme}://"
        + (f"[{host}]" if ":" in host else host)
        + ("" if parts.port is None else f":{parts.port}")
    )


def shown_url(text: str) -> str:
    """A URL without what may be a secret in it: path, query, user information.

    Of one that is not http, all but the scheme: the host of many is a token.
    """
    try:
        return net.parse_origin(_http_origin(text))
    except ValueError:
        scheme = _SCHEME.match(text)
        return f"{scheme[1].lower() if scheme else 'url'}://<secret>"


def webhook_keys(text: str) -> tuple[bytes, ...]:
    """The keys of one or several secrets, separated by spaces or lines.

    Raises ValueError, without a part of them.
    """
    keys = tuple(_key(secret) for secret in text.split())
    if not 1 <= len(keys) <= _MAX_SECRETS:
        raise ValueError(f"must hold 1 to {_MAX_SECRETS} secrets, not {len(keys)}")
    return keys


def _key(secret: str) -> bytes:
    if not secret.startswith(_PREFIX):
        raise ValueError(f"must begin with {_PREFIX}; {_MAKE_ONE}")
    try:
        encoded = secret.removeprefix(_PREFIX).rstrip("=")
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except binascii.Error:
        raise ValueError(f"must be base64 after {_PREFIX}; {_MAKE_ONE}") from None
    if len(key) not in _SECRET_BYTES:
        low, high = _SECRET_BYTES[0], _SECRET_BYTES[-1]
        raise ValueError(f"must stand for {low} to {high} bytes, not {len(key)}; {_MAKE_ONE}")
    return key


def _heartbeat(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if text and (problem := _url_problem(text) or _http_problem(text)):
        raise ValueError(problem)
    return value


def _secret(value: SecretStr) -> SecretStr:
    webhook_keys(value.get_secret_value())
    return value


def _kind(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        if not any(fnmatchcase(kind, value) for kind in KINDS):
            raise ValueError(f"{value[:40]!r} matches no kind of alert; kinds: {', '.join(KINDS)}")
    return values


ChannelName = Annotated[str, AfterValidator(_name)]
ChannelUrl = Annotated[
    SecretStr,
    Field(min_length=1),
    shown_as(lambda value: shown_url(value.get_secret_value())),
]
HeartbeatUrl = Annotated[
    SecretStr,
    AfterValidator(_heartbeat),
    shown_as(lambda value: value.get_secret_value() and shown_url(value.get_secret_value())),
]
WebhookSecret = Annotated[SecretStr, AfterValidator(_secret), shown_as(lambda _: "<secret>")]


class When(Section):
    """Which alerts a channel tells of, by shell patterns; what is left out matches everything.

    What stale and channel alerts do not have (a percentage, provider, model, user, quota) is
    empty, except that ``min_percentage`` does not concern them.
    """

    kind: Annotated[Patterns, AfterValidator(_kind)] = ("*",)
    min_percentage: Annotated[Number, between(0.0, 1000.0)] = 0.0
    provider: Patterns = ("*",)
    model: Patterns = ("*",)
    user: UserPatterns = ("*",)
    quota: Patterns = ("*",)


class Channel(Section):
    """A place of the operator's to which alerts go."""

    name: ChannelName
    type: ChannelType
    url: ChannelUrl
    url_file: Located | None = None
    secret: WebhookSecret | None = None
    secret_file: Located | None = None
    when: When = When()

    @classmethod
    def contradictions(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
        kind, url, secret = raw.get("type"), revealed(raw.get("url")), raw.get("secret")
        if kind == "webhook" and secret is None:
            yield (), f"needs secret or secret_file, to sign what is sent; {_MAKE_ONE}"
        if kind in ("alertmanager", "apprise") and secret not in (None, BROKEN):
            yield ("secret",), f"is for webhooks; an {kind} channel has its secrets in its url"
        if kind == "apprise" and find_spec("apprise") is None:
            yield ("type",), "needs the extra apprise: pip install 'quotabell[apprise]'"
        elif url and (problem := _url_problem(url) or _problem_for(kind, url)):
            yield ("url",), problem

    @property
    def origin(self) -> str:
        """What shares one fate; holds no secret."""
        if self.type == "apprise":
            return f"apprise:{self.name}"
        return net.parse_origin(_http_origin(self.url.get_secret_value()))


def _known_to_apprise(url: str) -> bool:
    import apprise  # an extra, and slow to import

    return apprise.Apprise.instantiate(url, suppress_exceptions=True) is not None


def contradictions(channels: object) -> Iterator[tuple[Loc, str]]:
    """Rules between channels; the places start at the top of the file."""
    names: dict[str, int] = {}
    for i, channel in enumerate(channels if isinstance(channels, list | tuple) else ()):
        name = part(channel, "name")
        if isinstance(name, str) and names.setdefault(name, i) != i:
            first = key_path(("channels", names[name]))
            yield ("channels", i, "name"), f"{name[:64]!r} is the name of {first} already"
