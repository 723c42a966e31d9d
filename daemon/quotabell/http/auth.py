"""Who is asking, and whether they may.

With tokens configured, every request but the probes carries one. Without any, the daemon
listens on loopback only, and since any web page can make a browser talk to a loopback port,
requests that a foreign page caused are refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from ipaddress import IPv6Address, ip_address
from typing import Protocol

from aiohttp import hdrs, web
from pydantic import SecretStr

from quotabell.errors import QuotabellError

SCOPES = frozenset({"ingest", "read", "push", "metrics", "admin"})
OWN_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
_OWN_FETCHES = frozenset({"same-origin", "none"})


class Unauthorized(QuotabellError):
    """This needs a token: send it as `Authorization: Bearer <token>`."""


class Forbidden(QuotabellError):
    """This token does not allow that."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever a token stands for. ``user`` not None: sees and touches only that user."""

    name: str
    scopes: frozenset[str]
    user: str | None = None

    def may(self, scope: str) -> bool:
        if "admin" in self.scopes:
            return True
        if scope == "metrics":  # shows every user's usage
            return self.user is None and not self.scopes.isdisjoint({"metrics", "read"})
        return scope in self.scopes

    def counts_for(self, user: str) -> str:
        """The user a report counts for; Forbidden if a bound token names another one."""
        if self.user is None:
            return user
        if user and user != self.user:
            raise Forbidden(f"this token reports for the user {self.user} only")
        return self.user


class Token(Protocol):
    """A configured token."""

    @property
    def name(self) -> str: ...
    @property
    def token(self) -> SecretStr | None: ...
    @property
    def scopes(self) -> Iterable[str]: ...
    @property
    def user(self) -> str | None: ...


LOCAL = Caller("local", SCOPES)


class Gate:
    """Admits a request to a scope. Holds only digests of the tokens.

    Tokens are looked up by their SHA-256, so the time a look-up takes tells nothing about
    the characters of any token.
    """

    def __init__(self, tokens: Iterable[Token], *, open_metrics: bool) -> None:
        self.replace(tokens, open_metrics=open_metrics)

    def replace(self, tokens: Iterable[Token], *, open_metrics: bool) -> None:
        """Take a new set of tokens into use."""
        self._callers = {
            _digest(t.token.get_secret_value()): Caller(t.name, frozenset(t.scopes), t.user)
            for t in tokens
            if t.token is not None
        }
        self._open_metrics = open_metrics

    def names(self) -> list[str]:
        """Every name that a caller can have."""
        return [c.name for c in self._callers.values()] or [LOCAL.name]

    def admit(self, request: web.Request, scope: str | None) -> Caller:
        """The caller; ``scope`` None: open to all who reach the daemon.

        Raises Unauthorized without a valid token, Forbidden with too little.
        """
        if not self._callers:
            refuse_foreign_pages(request)
            return LOCAL
        if scope is None or (scope == "metrics" and self._open_metrics):
            return LOCAL
        caller = self._identify(request.headers.get(hdrs.AUTHORIZATION, ""))
        if not caller.may(scope):
            raise Forbidden(f"this needs the scope {scope}, which the token {caller.name} lacks")
        return caller

    def _identify(self, header: str) -> Caller:
        kind, _, token = header.partition(" ")
        if kind.lower() != "bearer" or not token:
            raise Unauthorized
        caller = self._callers.get(_digest(token.strip()))
        if caller is None:
            raise Unauthorized("this token is not known")
        return caller


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()


def refuse_foreign_pages(request: web.Request) -> None:
    """Forbidden unless the request came to this machine itself and no foreign page caused it.

    The Host check defeats DNS rebinding, Origin and Sec-Fetch-Site (W3C Fetch Metadata)
    what a page may send blindly.
    """
    if not _reached_loopback(request):
        raise Forbidden("without auth.tokens this daemon answers only on the loopback interface")
    host = request.headers.get(hdrs.HOST, "")
    if _hostname(host) not in OWN_HOSTS:
        raise Forbidden(
            "without auth.tokens this daemon answers only to localhost, 127.0.0.1 and [::1]"
        )
    origin = request.headers.get(hdrs.ORIGIN)
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        raise Forbidden("requests from other web pages are refused")
    if request.headers.get("Sec-Fetch-Site", "none") not in _OWN_FETCHES:
        raise Forbidden("requests from other web pages are refused")


def _hostname(host: str) -> str:
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        return name if bracket and _is_port(rest) else ""
    name, colon, rest = host.partition(":")
    return name.lower() if _is_port(colon + rest) else ""


def _is_port(text: str) -> bool:
    return not text or (text[0] == ":" and (text[1:].isdecimal() or text == ":"))


def _reached_loopback(request: web.Request) -> bool:
    """Whether the connection was made to a loopback address, so from this machine.

    The socket may listen elsewhere if the tokens were removed by a reload.
    """
    transport = request.transport
    name = transport.get_extra_info("sockname") if transport is not None else None
    if not isinstance(name, tuple):
        return False
    if name[0] == "127.0.0.1":
        return True
    address = ip_address(name[0].partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
