"""Lets requests in: by a configured token, by a signed one, or because they are local.

With either configured, every request but the probes carries one. Without, the daemon listens
on loopback only, and since any web page can make a browser talk to a loopback port, requests
that a foreign page caused are refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable
from hashlib import sha256
from time import monotonic
from typing import Protocol

from aiohttp import hdrs, web
from pydantic import SecretStr

from quotabell.config import Auth
from quotabell.http.allowance import network
from quotabell.http.buckets import Buckets, TooMany
from quotabell.http.caller import LOCAL, SCOPES, Caller, Forbidden, Unauthorized
from quotabell.http.guard import refuse_foreign_pages
from quotabell.http.signed import Signed

__all__ = ["LOCAL", "SCOPES", "Caller", "Forbidden", "Gate", "Token", "Unauthorized", "gate_of"]

FAILURES = 60  # a minute and address
WASTED = 10  # times as many bad tokens, from which on no signature of an address is checked


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


class Gate:
    """Admits a request to a scope. Holds only digests of the tokens.

    Tokens are looked up by their SHA-256, so the time a look-up takes tells nothing about
    the characters of any token.
    """

    def __init__(
        self,
        tokens: Iterable[Token],
        *,
        open_metrics: bool,
        signed: Signed | None = None,
        origins: Collection[str] = (),
        failures: int = FAILURES,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._clock = clock
        self._callers = {
            _digest(t.token.get_secret_value()): Caller(t.name, frozenset(t.scopes), t.user)
            for t in tokens
            if t.token is not None
        }
        self._signed = signed
        self._open_metrics = open_metrics
        self.origins = frozenset(origins)
        self._limit = failures
        self._failed = Buckets(failures, clock=clock)
        # Signatures that were checked in vain. More of them: those who share an address with one
        # that guesses, behind a proxy, should come in with new tokens all the same.
        self._wasted = Buckets(failures * WASTED, clock=clock)

    def replace(self, other: Gate) -> None:
        """Let in whom another gate would. Failures are remembered, if as many are allowed."""
        self._callers = other._callers
        self._signed = other._signed
        self._open_metrics = other._open_metrics
        self.origins = other.origins
        if self._limit != other._limit:
            self._limit, self._failed = other._limit, other._failed
            self._wasted = other._wasted

    def names(self) -> list[str]:
        """Every name that a caller can have in metrics."""
        names = [c.name for c in self._callers.values()]
        if self._signed is not None:
            names.append("jwt")
        return names or [LOCAL.name]

    def admit(
        self,
        request: web.Request,
        scope: str | None,
        *,
        shared: bool = False,
        visited: bool = False,
    ) -> Caller:
        """The caller; ``scope`` None: open to all who reach the daemon. ``shared``: pages of the
        allowed origins may ask for it. ``visited``: links of any page may lead to it.

        Raises Unauthorized without a valid token, TooMany instead if its address sent too many,
        Forbidden with too little.
        """
        if not self._callers and self._signed is None:
            refuse_foreign_pages(request, self.origins if shared else (), visited=visited)
            return LOCAL
        if scope is None or (scope == "metrics" and self._open_metrics):
            return LOCAL
        caller = self._identify(request)
        if not caller.may(scope):
            raise Forbidden(
                f"this needs the scope {scope}, which the token {caller.name} lacks", scope=scope
            )
        return caller

    def _identify(self, request: web.Request) -> Caller:
        kind, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        token = token.strip()
        if kind.lower() != "bearer" or not token:
            raise Unauthorized
        digest = _digest(token)
        caller = self._callers.get(digest)
        if caller is None and self._signed is not None:
            caller = self._signed.known(digest)
        if caller is not None:
            return caller
        address = network(request)
        try:
            if self._signed is None or token.count(".") < 2:
                raise Unauthorized("this token is not known")
            self._wasted.expect(address)
            return self._signed.identify(token, digest)
        except Unauthorized:
            with contextlib.suppress(TooMany):
                self._wasted.take(address)
            self._failed.take(address)
            raise


def gate_of(auth: Auth) -> Gate:
    """The gate of a configuration."""
    return Gate(
        auth.tokens,
        open_metrics=auth.open_metrics,
        signed=Signed(auth.jwt) if auth.jwt is not None else None,
        origins=auth.cors_origins,
        failures=auth.failures_per_minute,
    )


def _digest(token: str) -> bytes:
    return sha256(token.encode("utf-8", "surrogateescape")).digest()
