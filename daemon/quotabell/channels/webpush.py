"""Notifications to browsers: RFC 8030 (delivery), 8291 (encryption), 8292 (sender).

Not pywebpush's own sending: it signs a token for every message, follows redirects, and waits
and reads without a bound.
"""

from __future__ import annotations

import asyncio
import json
import math
import ssl
import time
from bisect import bisect_right
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from quotabell.channels.aes128gcm import Receiver
from quotabell.channels.contract import Notification
from quotabell.channels.guarded import TOTAL, Resolver, fault_of, open_session
from quotabell.channels.refusals import Refusals
from quotabell.channels.vapid import Keyring, VapidSigner
from quotabell.channels.wire import Bound, Wire
from quotabell.domain.endpoints import Endpoint, EndpointRules, Refusal
from quotabell.domain.outcome import Fault, Outcome, classify, unreachable
from quotabell.domain.push_keys import check_keys

MAX_PLAINTEXT: Final = 3993  # bytes: 4096 - 86 header - 1 delimiter - 16 tag (RFC 8291 §4)
BUCKETS: Final = (2641, MAX_PLAINTEXT)  # 2641: what the 2744 bytes of Firefox on Android hold
SHORT_BUCKET: Final = 1024  # of the form that is sent after "too large"
_FIELD_ROOM: Final = 256  # bytes that a field but the body keeps when all is too long
_MIN_TTL: Final = 60  # seconds; WNS and Apple refuse 0
_MAX_TTL: Final = 24 * 3600
_REMEMBERED: Final = 4096  # recipients whose checks are not repeated; about 2 KiB each
_TEXTS: Final = 16  # messages, whose deliveries come one after the other


@dataclass(frozen=True, slots=True)
class PushTarget:
    """A subscription as it is stored. Endpoint and keys are secrets and never printed."""

    endpoint: str = field(repr=False)
    p256dh: str = field(repr=False)
    auth: str = field(repr=False)
    key_id: str = ""  # of the VAPID key it was made with; empty: the newest


@dataclass(frozen=True, slots=True)
class _Recipient:
    """A target that passed all checks, ready to be encrypted to."""

    endpoint: Endpoint
    origin: URL
    head: str = field(repr=False)  # of each request to it
    receiver: Receiver = field(repr=False)


class WebPushChannel:
    """Sends to push subscriptions whose endpoints the rules allow.

    Endpoint and keys are checked here again, whatever was checked when they were stored.
    """

    def __init__(
        self,
        rules: EndpointRules,
        keyring: Keyring,
        *,
        resolver: AbstractResolver | None = None,
        tls: ssl.SSLContext | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """``resolver`` and ``tls`` default to the system's; a given resolver is not closed."""
        self._rules = rules
        self._keyring = keyring
        self._resolver = resolver
        self._tls = tls
        self._wall = wall
        self._checked = lru_cache(_REMEMBERED)(self._check)
        self._padded = lru_cache(_TEXTS)(_padded)
        self._last: tuple[Notification | None, bytes] = (None, b"")
        self._refusals = Refusals()
        self._stack = AsyncExitStack()
        self._public: Wire
        self._trusted: Wire

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            resolver = self._resolver
            if resolver is None:
                resolver = Resolver()
                stack.push_async_callback(resolver.close)
            # Connections of trusted origins have a pool of their own: a name that a stranger
            # chose can never share their exemption.
            self._public = Wire(
                await stack.enter_async_context(open_session(resolver, tls=self._tls))
            )
            self._trusted = Wire(
                await stack.enter_async_context(
                    open_session(resolver, public_only=False, tls=self._tls)
                )
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        await self._stack.aclose()

    def origin(self, target: PushTarget) -> str:
        """The push service's origin; empty for a target that is never contacted."""
        recipient = self._recipient(target)
        return "" if isinstance(recipient, Outcome) else recipient.endpoint.origin

    async def send(self, notification: Notification, target: PushTarget) -> Outcome:
        """One try, which may take up to four requests: a new token, a short form and a repetition
        that the service itself suggests are each tried at most once, and all of it ends within
        10 seconds. None if the service is refusing the key.

        The outcome asks for nothing more: ``resign``, ``short_form`` and ``again`` are False.
        """
        recipient = self._recipient(target)
        if isinstance(recipient, Outcome):
            return recipient
        signer = self._signer(target.key_id)
        if signer is None:
            # Another replica may hold a newer key file; this one will after its reload.
            return Outcome("retry", reason="key_missing", counts=False)
        asked = (recipient.endpoint.origin, signer.key.id)
        if wait := self._refusals.waits(*asked):
            return Outcome("retry", None, "key_refused: paused", wait, counts=False)
        bound = Bound(TOTAL)
        try:
            outcome = await self._exchange(notification, recipient, signer)
        except asyncio.CancelledError:
            if not bound.broke():
                raise
            return unreachable(Fault.TIMEOUT)
        finally:
            bound.lift()
        self._refusals.heard(*asked, outcome, hash(target.endpoint))
        return outcome

    def _recipient(self, target: PushTarget) -> _Recipient | Outcome:
        for value in (target.endpoint, target.p256dh, target.auth):
            if not isinstance(value, str):  # a stored document may hold anything
                return Outcome("failed", reason="bad_keys: endpoint and keys must be strings")
        return self._checked(target)

    def _check(self, target: PushTarget) -> _Recipient | Outcome:
        endpoint = self._rules.check(target.endpoint)
        if isinstance(endpoint, Refusal):
            return Outcome("failed", reason=f"endpoint_refused: {endpoint.reason}")
        problem = check_keys(target.p256dh, target.auth)
        if problem is not None:
            return Outcome("failed", reason=f"bad_keys: {problem}")
        url = request_url(endpoint)
        if url is None:
            return Outcome("failed", reason="endpoint_refused: it can be read in two ways")
        return _Recipient(
            endpoint, url.origin(), _head(url), Receiver.of(target.p256dh, target.auth)
        )

    def _signer(self, key_id: str) -> VapidSigner | None:
        return self._keyring.signer(key_id) if key_id else self._keyring.newest

    async def _exchange(
        self, notification: Notification, recipient: _Recipient, signer: VapidSigner
    ) -> Outcome:
        """Ask, and ask again as the answers say."""
        text, form = self._text(notification), ""
        origin = recipient.endpoint.origin
        may_resign = may_shorten = may_repeat = True
        while True:
            header = signer.header(origin)
            outcome = await self._post(notification, recipient, header, text)
            if outcome.kind == "sent" and not form:
                return outcome
            if outcome.resign and may_resign and signer.invalidate(origin, header):
                may_resign = False
            elif outcome.short_form and may_shorten:
                text, form = short_plaintext(notification), ": short form"
                may_shorten = False
            elif outcome.again and may_repeat:
                may_repeat = False
            else:
                break
        reason = outcome.reason + (form if outcome.kind == "sent" else "")
        return replace(outcome, reason=reason, resign=False, short_form=False, again=False)

    def _text(self, notification: Notification) -> bytes:
        """The deliveries of one message come one after the other, and share it."""
        last, text = self._last
        if notification is not last:
            text = self._padded(tuple(notification.payload().items()))
            self._last = notification, text
        return text

    async def _post(
        self, notification: Notification, recipient: _Recipient, authorization: str, text: bytes
    ) -> Outcome:
        endpoint = recipient.endpoint
        # Takes about 0.1 ms, too little for a thread to be worth it.
        body = recipient.receiver.encrypt(text)
        topic = f"Topic: {notification.topic}\r\n" if notification.topic else ""
        head = (
            f"{recipient.head}Authorization: {authorization}\r\n"
            f"TTL: {int(min(max(notification.ttl, _MIN_TTL), _MAX_TTL))}\r\n"
            f"Urgency: {notification.urgency}\r\n{topic}Content-Length: {len(body)}\r\n\r\n"
        )
        wire = self._trusted if endpoint.trusted else self._public
        try:
            reply = await wire.post(recipient.origin, head.encode("ascii"), body)
        except (aiohttp.ClientError, OSError) as error:
            return unreachable(fault_of(error))
        return classify(reply.status, reply.headers, reply.body, self._wall(), endpoint.service)


def _head(url: URL) -> str:
    """What the requests to an endpoint have in common."""
    return (
        f"POST {url.raw_path_qs} HTTP/1.1\r\nHost: {url.host_port_subcomponent}\r\n"
        "User-Agent: quotabell\r\nAccept: */*\r\nContent-Encoding: aes128gcm\r\n"
        "Content-Type: application/octet-stream\r\n"
    )


def request_url(endpoint: Endpoint) -> URL | None:
    """The endpoint for the HTTP client, byte for byte; None if the client reads it otherwise."""
    url = URL(endpoint.url, encoded=True)
    read = (url.scheme, url.raw_host, url.port, url.raw_path_qs)
    checked = (endpoint.scheme, endpoint.host, endpoint.port, endpoint.target)
    plain = url.raw_user is None and url.raw_password is None and not url.raw_fragment
    return url if plain and read == checked else None


def plaintext(notification: Notification) -> bytes:
    """The payload as JSON, in one of two sizes whatever it says.

    Padded with spaces, which JSON allows after a value. What is too long loses the end of its
    body, and of other fields only if they are very long themselves.
    """
    return _padded(tuple(notification.payload().items()))


def _padded(payload: tuple[tuple[str, Any], ...]) -> bytes:
    fields = {name: _clean(value) for name, value in payload}
    text = _json(fields)
    if len(text) > MAX_PLAINTEXT:
        body = str(fields["body"])
        for name, value in fields.items():
            if isinstance(value, str):
                fields[name] = "" if name == "body" else _clip(value, _FIELD_ROOM)
        fields["body"] = _clip(body, MAX_PLAINTEXT - len(_json(fields)))
        text = _json(fields)
    return text.ljust(next(size for size in BUCKETS if len(text) <= size))


def short_plaintext(notification: Notification) -> bytes:
    """Title and tag alone, for a service that found the payload too large."""
    title, tag = str(_clean(notification.title)), str(_clean(notification.tag))
    fields: dict[str, object] = {"title": _clip(title, 2 * _FIELD_ROOM)}
    fields["tag"] = _clip(tag, _FIELD_ROOM)
    return _json(fields).ljust(SHORT_BUCKET)


def _clean(value: object) -> object:
    """A value that JSON can hold: no lone surrogates, no infinite numbers."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _clip(text: str, room: int) -> str:
    """As much of the text as takes at most ``room`` bytes in JSON; a cut shows as an ellipsis."""
    if len(_json(text)) - 2 <= room:
        return text
    room -= len("…".encode())
    text = text[:room]  # a character takes at least one byte
    fits = bisect_right(range(len(text) + 1), room, key=lambda n: len(_json(text[:n])) - 2) - 1
    return text[:fits] + "…"
