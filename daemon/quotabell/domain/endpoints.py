"""Which push endpoints may be contacted.

An endpoint is a URL that a stranger hands in and that this daemon then POSTs to, so it is the
classic way to make a server call its own network. The rules: parse once and strictly, refuse
what a browser's push manager would never write, and go on only with the parsed parts, so that
what was checked is what is connected to. Addresses are checked again when connecting.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Final, Literal

from quotabell.domain.push_keys import check_keys

Service = Literal["mozilla", "google", "apple", "windows", "other"]

KNOWN_HOSTS: Final = (
    "updates.push.services.mozilla.com",
    "fcm.googleapis.com",
    "android.googleapis.com",
    "jmt17.google.com",
    "*.push.apple.com",
    "*.notify.windows.com",
)
"""Hosts of the push services of today's browsers."""

MAX_ENDPOINT: Final = 2048  # characters
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_SPLIT: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?]*)(.*)")
_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]|[^:\[\]]*)(:[0-9]*)?")
_PORT: Final = re.compile(r":[1-9][0-9]{0,4}")
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")  # WHATWG URL: such a last label makes an IPv4
_TARGET: Final = (
    re.compile(  # RFC 3986 §3.3, §3.4; a lone "?" is sent by some and dropped by others
        r"/(?:[A-Za-z0-9._~:/@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*"
        r"(?:\?(?:[A-Za-z0-9._~:/?@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)?"
    )
)
_PRINTABLE: Final = re.compile(r"[!-~]*")
_SERVICES: Final[tuple[tuple[str, Service], ...]] = (
    (".mozilla.com", "mozilla"),
    (".googleapis.com", "google"),
    (".google.com", "google"),
    (".push.apple.com", "apple"),
    (".notify.windows.com", "windows"),
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A push endpoint that passed the rules. Its target is a capability and never printed."""

    scheme: Literal["http", "https"]
    host: str  # lower case; an IPv6 literal without brackets
    port: int
    target: str = field(repr=False)  # path and query, exactly as given
    trusted: bool = False  # its origin is exempt from the https and public address rules

    @property
    def origin(self) -> str:
        """``scheme://host[:port]`` without a default port (RFC 6454 §6.2): the VAPID audience."""
        return _origin(self.scheme, self.host, self.port)

    @property
    def url(self) -> str:
        return self.origin + self.target

    @property
    def digest(self) -> str:
        """SHA-256 of the URL in hex: names the endpoint where it must not be shown."""
        return hashlib.sha256(self.url.encode()).hexdigest()

    @property
    def service(self) -> Service:
        """Whose push service it is; decides how its answers are read."""
        return next((name for end, name in _SERVICES if self.host.endswith(end)), "other")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an endpoint is never contacted, without any part of the endpoint."""

    reason: str


@dataclass(frozen=True, slots=True)
class EndpointRules:
    """The allow-list.

    ``allowed_hosts`` are added to KNOWN_HOSTS: an exact name, or ``*.suffix`` for any name
    below the suffix. ``trusted_origins`` (``scheme://host[:port]``) are exempt from the https,
    port, allow-list and address rules. Raises ValueError for an entry that is neither.
    """

    allowed_hosts: tuple[str, ...] = ()
    trusted_origins: tuple[str, ...] = ()
    _names: frozenset[str] = field(init=False, repr=False)
    _suffixes: tuple[str, ...] = field(init=False, repr=False)
    _origins: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        hosts = [h.lower() for h in (*KNOWN_HOSTS, *self.allowed_hosts)]
        for host in hosts:
            if not _is_name(host.removeprefix("*.")) or "." not in host.removeprefix("*."):
                raise ValueError(f"{host!r} is neither a host name nor *.suffix")
        origins = []
        for text in self.trusted_origins:
            parsed = _parse(text.removesuffix("/") + "/")
            if isinstance(parsed, Refusal) or parsed.target != "/" or not _is_host(parsed.host):
                raise ValueError(f"{text!r} is not an origin, as in https://push.example.com:8443")
            origins.append(parsed.origin)
        set_ = object.__setattr__
        set_(self, "_names", frozenset(h for h in hosts if not h.startswith("*.")))
        set_(self, "_suffixes", tuple(h[1:] for h in hosts if h.startswith("*.")))
        set_(self, "_origins", frozenset(origins))

    def check(self, endpoint: str) -> Endpoint | Refusal:
        """The parsed endpoint, or why it must never be contacted."""
        parsed = _parse(endpoint)
        if isinstance(parsed, Refusal):
            return parsed
        if parsed.origin in self._origins:
            return Endpoint(parsed.scheme, parsed.host, parsed.port, parsed.target, trusted=True)
        if parsed.scheme != "https":
            return Refusal("the endpoint is not https")
        if parsed.port != 443:
            return Refusal("the endpoint's port is not 443")
        if _is_address(parsed.host):
            return Refusal("the endpoint's host is an address, not a name")
        if not _is_name(parsed.host):
            return Refusal("the endpoint's host is not a plain host name")
        if not self._allowed(parsed.host):
            return Refusal("the endpoint's host is not an allowed push service")
        return parsed

    def _allowed(self, host: str) -> bool:
        if host in self._names:
            return True
        for suffix in self._suffixes:
            below = host.removesuffix(suffix)
            if below != host and below and not any(x.startswith("xn--") for x in below.split(".")):
                return True
        return False

    def check_subscription(self, value: object) -> Subscription | Undeliverable | NoSubscription:
        """What a browser's ``PushSubscription.toJSON()`` is worth."""
        if not isinstance(value, dict):
            return NoSubscription("", "must be an object")
        endpoint = value.get("endpoint")
        if not isinstance(endpoint, str) or not endpoint:
            return NoSubscription("endpoint", "must be a string that is not empty")
        keys = value.get("keys")
        keys = keys if isinstance(keys, dict) else {}
        checked = self.check(endpoint)
        if isinstance(checked, Refusal):
            return Undeliverable(_storable(endpoint), checked.reason)
        p256dh, auth = keys.get("p256dh"), keys.get("auth")
        problem = check_keys(p256dh, auth)
        if problem is not None:
            return Undeliverable(_storable(endpoint), problem)
        assert isinstance(p256dh, str)
        assert isinstance(auth, str)
        expires = _seconds(value.get("expirationTime"))
        return Subscription(checked, p256dh.rstrip("="), auth.rstrip("="), expires)


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription that can be delivered to; its endpoint's target and keys are secrets."""

    endpoint: Endpoint
    p256dh: str = field(repr=False)  # unpadded base64url
    auth: str = field(repr=False)  # unpadded base64url
    expires: float | None = None  # seconds since the epoch, as the browser said


@dataclass(frozen=True, slots=True)
class Undeliverable:
    """A subscription that no push can ever reach: kept inactive, never contacted.

    ``endpoint`` is what was given, safe to store: at most MAX_ENDPOINT printable characters.
    """

    endpoint: str = field(repr=False)
    reason: str


@dataclass(frozen=True, slots=True)
class NoSubscription:
    """Not a subscription at all; ``path`` is the offending field within it (empty: the whole)."""

    path: str
    message: str


_IPV6_GLOBAL: Final = ipaddress.IPv6Network("2000::/3")
_REFUSED: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",  # protocol assignments; a cloud's metadata at .192
            "192.88.99.0/24",  # 6to4 relays
            "168.63.129.16/32",  # a cloud's platform service behind a public address
            "2001::/23",  # protocol assignments, Teredo among them
            "2002::/16",  # 6to4 carries any IPv4 address inside
            "3fff::/20",  # documentation
        ),
    )
)


def is_public(address: str) -> bool:
    """Whether an IP address may be connected to on behalf of a stranger.

    Narrower than ``is_global`` of ``ipaddress``, which takes multicast, 6to4 and, depending on
    the version of Python, mapped, compatible and newly reserved addresses for global. IPv6 must
    lie in 2000::/3, so that mapped, compatible and NAT64 (64:ff9b::/96) forms never pass.
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if not ip.is_global or ip.is_multicast or ip.is_reserved or ip.is_unspecified:
        return False
    if isinstance(ip, ipaddress.IPv6Address) and (ip.scope_id or ip not in _IPV6_GLOBAL):
        return False
    return not any(ip in network for network in _REFUSED if network.version == ip.version)


def _parse(text: str) -> Endpoint | Refusal:
    """The grammar alone: an absolute http(s) URL with a path, of the characters of RFC 3986."""
    if len(text) > MAX_ENDPOINT:
        return Refusal(f"the endpoint is longer than {MAX_ENDPOINT} characters")
    if not _PRINTABLE.fullmatch(text) or "\\" in text:
        return Refusal("the endpoint holds characters that no URL has")
    split = _SPLIT.fullmatch(text)
    scheme = split[1].lower() if split else ""
    if split is None or (scheme != "http" and scheme != "https"):
        return Refusal("the endpoint is not an https URL")
    if "#" in text:
        return Refusal("the endpoint has a fragment")
    if "@" in split[2]:
        return Refusal("the endpoint has user information")
    authority = _AUTHORITY.fullmatch(split[2])
    if authority is None or not authority[1]:
        return Refusal("the endpoint's host is not a plain host name")
    port = _DEFAULT_PORTS[scheme]
    if authority[2] is not None:
        port = int(authority[2][1:]) if _PORT.fullmatch(authority[2]) else 0
    if not 0 < port < 65536:
        return Refusal("the endpoint's port is not a port")
    if not _TARGET.fullmatch(split[3]):
        return Refusal("the endpoint's path is missing or holds characters that no URL has")
    host = authority[1].lower().strip("[]")
    return Endpoint("https" if scheme == "https" else "http", host, port, split[3])


def _origin(scheme: str, host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")


def _is_address(host: str) -> bool:
    return ":" in host or bool(_NUMERIC.fullmatch(host.removesuffix(".").rpartition(".")[2]))


def _is_name(host: str) -> bool:
    labels = host.split(".")
    return len(host) <= 253 and all(map(_LABEL.fullmatch, labels)) and not _is_address(host)


def _is_host(text: str) -> bool:
    """A name, or an address in its usual form."""
    try:
        return _is_name(text) or bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _storable(text: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:MAX_ENDPOINT])


def _seconds(milliseconds: object) -> float | None:
    """A DOMHighResTimeStamp of the epoch in seconds; None for anything else."""
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        return None
    return milliseconds / 1000 if 0 < milliseconds < 1e15 else None
