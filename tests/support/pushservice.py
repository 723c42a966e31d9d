"""A push service on a real port, and the browsers behind it.

It speaks the sender's side of RFC 8030: it verifies the VAPID token (RFC 8292), the headers
and the encoding, decrypts what arrives as the browser would (RFC 8291), and logs it with its
time. What it answers can be scripted, faults included. Whatever a sender did wrong stands in
``Arrival.problems`` and is answered as the real services do.

    async with PushService() as push:
        browser = push.subscribe(application_server_key)
        push.script(Answer(429, {"Retry-After": "2"}))
        ...
        assert push.problems == []
"""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from tests.support.push_browser import Browser, verify_vapid
from tests.support.waiting import eventually

MAX_BODY = 4096
FAULTS = ("hang", "reset", "half", "endless", "drip", "big", "garbage")
_URGENCIES = (None, "very-low", "low", "normal", "high")


@dataclass(frozen=True)
class Answer:
    """What a request is answered with.

    ``fault``: hang (never answer), reset (RST instead of an answer), half (break off within
    the body), endless (a body without end, as fast as it is read), drip (a byte a second),
    big (64 MiB), garbage (not HTTP).
    """

    status: int = 201
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay: float = 0.0  # seconds
    fault: str = ""

    def __post_init__(self) -> None:
        assert self.fault in ("", *FAULTS)


@dataclass
class Arrival:
    """One request, as it was on the wire and as the browser would read it."""

    at: float  # monotonic seconds
    token: str
    headers: dict[str, str]  # by lower-case name
    size: int  # bytes of the encrypted body
    problems: list[str]
    claims: dict[str, Any]
    plaintext: bytes | None
    status: int = 0  # answered with; 0: not answered

    @property
    def message(self) -> dict[str, Any]:
        """The payload, as ``event.data.json()`` gives it."""
        assert self.plaintext is not None, self.problems
        value = json.loads(self.plaintext)
        assert isinstance(value, dict)
        return value


class PushService:
    """``always`` is the answer when nothing is scripted."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.host = host
        self.port = 0
        self.always = Answer()
        self.arrivals: list[Arrival] = []
        self.connections = 0  # accepted so far
        self.sent = 0  # bytes of answers' bodies written so far
        self.followed: list[str] = []  # paths asked for beside the push resources
        self._tls = tls
        self._clock = clock
        self._script: deque[Answer] = deque()
        self._own: dict[str, deque[Answer]] = {}  # scripts by token
        self._browsers: dict[str, Browser] = {}
        self._runner: web.AppRunner | None = None

    @property
    def origin(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"

    @property
    def problems(self) -> list[str]:
        """Everything that any sender did wrong so far."""
        return [problem for arrival in self.arrivals for problem in arrival.problems]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The payloads that were accepted, in order of arrival."""
        return [a.message for a in self.arrivals if 200 <= a.status < 300]

    def subscribe(self, server_key: str | None = None, *, tail: str = "") -> Browser:
        """A new browser; ``server_key`` is the applicationServerKey, ``tail`` ends its path."""
        token = "gAAAA" + secrets.token_urlsafe(48) + tail
        endpoint = f"{self.origin}/wpush/v2/{token}"
        browser = self._browsers[token] = Browser(endpoint, token, server_key)
        return browser

    def script(self, *answers: Answer, to: Browser | None = None) -> None:
        """What the next requests are answered with, one each: those for ``to``, or any."""
        script = self._script if to is None else self._own.setdefault(to.token, deque())
        script.extend(answers)

    async def wait(self, count: int, timeout: float = 10.0) -> list[Arrival]:
        """The arrivals, once there are ``count``."""
        await eventually(lambda: len(self.arrivals) >= count, timeout)
        return self.arrivals

    def of(self, browser: Browser) -> list[Arrival]:
        return [arrival for arrival in self.arrivals if arrival.token == browser.token]

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 20)
        app.router.add_post("/wpush/v2/{token:.+}", self._post)
        app.router.add_route("*", "/{path:.*}", self._elsewhere)
        self._runner = web.AppRunner(app, shutdown_timeout=0.05, access_log=None)
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        loop = asyncio.get_running_loop()

        def accepted() -> asyncio.Protocol:
            self.connections += 1
            protocol = server()
            assert isinstance(protocol, asyncio.Protocol)
            return protocol

        self._listener = await loop.create_server(accepted, self.host, 0, ssl=self._tls)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        assert self._runner is not None
        await self._runner.cleanup()

    async def _elsewhere(self, request: web.Request) -> web.Response:
        self.followed.append(request.raw_path)
        return web.Response(status=404)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        at = time.monotonic()
        token = request.raw_path.removeprefix("/wpush/v2/")
        browser = self._browsers.get(token)
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        status, problems, claims = self._check(headers, body, browser)
        plaintext = None
        if browser is not None:
            try:
                plaintext = browser.read(body)
            except ValueError as error:
                problems.append(str(error))
        arrival = Arrival(at, token, headers, len(body), problems, claims, plaintext)
        self.arrivals.append(arrival)
        answer = self._answer(browser, status)
        if answer.delay:
            await asyncio.sleep(answer.delay)
        arrival.status = 0 if answer.fault in ("hang", "reset", "garbage") else answer.status
        return await self._reply(request, answer)

    def _answer(self, browser: Browser | None, status: int) -> Answer:
        own = self._own.get(browser.token) if browser is not None else None
        if own:
            return own.popleft()
        if self._script:
            return self._script.popleft()
        if browser is None or status != 201:
            return Answer(404 if browser is None else status)
        return Answer(410) if browser.gone else self.always

    def _check(
        self, headers: dict[str, str], body: bytes, browser: Browser | None
    ) -> tuple[int, list[str], dict[str, Any]]:
        """Status, problems and the token's claims of a request."""
        if browser is None:
            return 404, [], {}
        problems: list[str] = []
        claims: dict[str, Any] = {}
        status = 201
        try:
            header = headers.get("authorization", "")
            claims = verify_vapid(header, self.origin, browser.server_key, self._clock())
        except ValueError as error:
            problems.append(f"VAPID: {error}")
            status = 401
        if not re.fullmatch(r"[0-9]+", headers.get("ttl", "")) or int(headers["ttl"]) < 1:
            problems.append("TTL is missing or not positive")
            status = 400
        if headers.get("urgency") not in _URGENCIES:
            problems.append("Urgency is unknown")
            status = 400
        if "topic" in headers and not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", headers["topic"]):
            problems.append("Topic is not base64url of at most 32 characters")
            status = 400
        if headers.get("content-encoding") != "aes128gcm":
            problems.append("Content-Encoding is not aes128gcm")
            status = 400
        if len(body) > MAX_BODY:
            problems.append("the body is longer than 4096 bytes")
            status = 413
        return status, problems, claims

    async def _reply(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        transport = request.transport
        if answer.fault == "hang":
            await asyncio.Event().wait()
        if answer.fault in ("reset", "garbage") and transport is not None:
            if answer.fault == "garbage":
                transport.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
                transport.close()
            else:
                raw = transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                transport.abort()
            return web.Response()
        if not answer.fault:
            return web.Response(status=answer.status, headers=answer.headers, body=answer.body)
        return await self._stream(request, answer)

    async def _stream(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        if answer.fault in ("half", "big"):
            response.content_length = 64 << 20
        try:
            await response.prepare(request)
            written = 0
            while request.transport is not None:
                if answer.fault == "half" and written:
                    request.transport.abort()
                    break
                part = b"x" if answer.fault == "drip" else b"x" * 65536
                await response.write(part)
                written += len(part)
                self.sent += len(part)
                if answer.fault == "big" and written >= 64 << 20:
                    break
                if answer.fault in ("drip", "half"):
                    await asyncio.sleep(1.0 if answer.fault == "drip" else 0.05)
        except ConnectionError:
            pass  # the sender has had enough
        return response
