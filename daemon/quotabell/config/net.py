"""Addresses, host names and origins that appear in the configuration."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_LISTEN = re.compile(r"(?:\[(?P<v6>[^\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})")
_ORIGIN = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[^:/?#@\[\]]+)(?::(?P<port>[0-9]{1,5}))?"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Names that lead nowhere outside one's own network (RFC 6761, RFC 6762, RFC 9476 and custom).
_PRIVATE_SUFFIXES = frozenset(
    {"localhost", "local", "localdomain", "internal", "invalid", "test", "lan", "home", "alt"}
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. An empty host means every interface; port 0 lets the system choose."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can connect."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(value: object) -> Address:
    """The address from ``127.0.0.1:3001``, ``[::1]:3001``, ``localhost:0`` or ``:3001``.

    Raises ValueError saying what is wrong.
    """
    if isinstance(value, Address):
        return value
    match = _LISTEN.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise ValueError('must be host:port in quotes, like "127.0.0.1:3001" or "[::1]:3001"')
    port = int(match["port"])
    if port > 65535:
        raise ValueError(f"{port} is no port: it must be from 0 to 65535")
    if match["v6"] is not None:
        return Address(str(_ip(match["v6"], 6)), port)
    host = match["host"].lower()
    if host and host.rpartition(".")[2].isdigit():
        return Address(str(_ip(host, 4)), port)
    if host and not is_host_name(host):
        raise ValueError(f"{host!r} is no host name")
    return Address(host, port)


def is_host_name(text: str) -> bool:
    """Whether ``text`` is a host name of letters, digits and hyphens (RFC 1123 §2.1)."""
    return len(text) <= 253 and _HOST_NAME.fullmatch(text) is not None


def parse_host_pattern(value: str) -> str:
    """A host name, or ``*.suffix`` for every host below it, in lower case.

    Raises ValueError for URLs, ports, addresses and suffixes of one label, which would let
    in a whole top-level domain.
    """
    name = value.lower()
    suffix = name.removeprefix("*.")
    if not is_host_name(suffix) or suffix.rpartition(".")[2].isdigit():
        raise ValueError(f"{value!r} is no host name or *.suffix (no scheme, port or address)")
    if name != suffix and "." not in suffix:
        raise ValueError(f"{value!r} would allow a whole top-level domain")
    return name


def parse_origin(value: str) -> str:
    """An exact origin ``scheme://host[:port]``, in lower case, without a default port.

    That is the form in which RFC 6454 §6.2 compares origins. Raises ValueError.
    """
    match = _ORIGIN.fullmatch(value.lower())
    if not match:
        raise ValueError(f"{value!r} is no origin: write scheme://host or scheme://host:port")
    host, port = match["host"], int(match["port"] or _DEFAULT_PORTS[match["scheme"]])
    if host.startswith("["):
        host = f"[{_ip(host[1:-1], 6)}]"
    elif host.rpartition(".")[2].isdigit():
        host = str(_ip(host, 4))
    elif not is_host_name(host):
        raise ValueError(f"{host!r} is no host name")
    if not 0 < port < 65536:
        raise ValueError(f"{port} is no port: it must be from 1 to 65535")
    shown = "" if port == _DEFAULT_PORTS[match["scheme"]] else f":{port}"
    return f"{match['scheme']}://{host}{shown}"


def parse_external(value: str) -> str:
    """Where people open the page, ``scheme://host[:port]``; empty: where the daemon listens.

    Raises ValueError for a path: the page and its service worker lie at the root.
    """
    if not value:
        return ""
    try:
        return parse_origin(value.removesuffix("/"))
    except ValueError as error:
        raise ValueError(f"{error}, without a path, as the page lies at /") from None


def check_contact(value: str) -> None:
    """Raises ValueError unless ``value`` is a ``mailto:`` or ``https:`` contact (RFC 8292 §2.1).

    Push services check its form: Apple answers 403 to a contact at ``localhost``.
    """
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("must be a mailto: or https: URL without spaces")
    if value.startswith("mailto:"):
        user, at, host = value.removeprefix("mailto:").partition("@")
        if not user or not at or re.search(r"[?,@]", user + host):
            raise ValueError("must hold one e-mail address, like mailto:ops@example.com")
    elif value.startswith("https://"):
        try:
            parts = urlsplit(value)
            host = parts.hostname or ""
            _ = parts.port
        except ValueError:
            raise ValueError("is no https: URL that can be read") from None
        if "@" in parts.netloc:
            raise ValueError("must not hold a user name or password")
    else:
        raise ValueError("must begin with mailto: or https://")
    if not _is_public_name(host):
        raise ValueError(f"{host!r} is no public domain; push services refuse such a contact")


def _is_public_name(host: str) -> bool:
    top = host.lower().rpartition(".")[2]
    return (
        is_host_name(host)
        and "." in host
        and len(top) > 1
        and not top.isdigit()
        and top not in _PRIVATE_SUFFIXES
    )


def _ip(text: str, version: int) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        address = None
    if address is None or address.version != version:
        raise ValueError(f"{text!r} is no IPv{version} address")
    return address
