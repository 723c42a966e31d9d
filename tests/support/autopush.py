"""Mozilla's push service on loopback, as a stock Firefox and a sender see it.

The browser's side is the WebSocket protocol of autopush (hello, register, unregister,
notification, ack), the sender's RFC 8030 with the token of RFC 8292 verified. What is pushed is
passed on encrypted; only the browser can read it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

from aiohttp import WSMsgType, web

from tests.support.push_browser import b64u, verify_vapid

DELIVERED = 100  # an ack's code: decrypted, and the worker's handler ran
_CLOSED_ON_PURPOSE = 4774  # Firefox does not connect again


@dataclass
class Message:
    """One push that was accepted."""

    id: str
    channel: str
    ttl: int
    topic: str | None
    body: bytes
    created: float = field(default_factory=time.monotonic)

    def frame(self) -> dict[str, Any]:
        return {
            "messageType": "notification",
            "channelID": self.channel,
            "version": self.id,
            "ttl": self.ttl,
            "data": b64u(self.body),
            "headers": {"encoding": "aes128gcm"},
        }


@dataclass
class Channel:
    """A subscription of an agent, which is a browser's profile."""

    id: str
    agent: str
    key: str | None
    token: str = field(default_factory=lambda: "gAAAA" + secrets.token_urlsafe(60))
    gone: bool = False
    waiting: list[Message] = field(default_factory=list)


class Autopush:
    """``accepted`` are the messages so far, ``acks`` the browser's code for each by its id."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = 0
        self.accepted: list[Message] = []
        self.acks: dict[str, int] = {}
        self.problems: list[str] = []
        self._agents: dict[str, dict[str, Channel]] = {}
        self._tokens: dict[str, Channel] = {}
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._changed = asyncio.Condition()

    @property
    def origin(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def socket_url(self) -> str:
        return f"ws://{self.host}:{self.port}/"

    @property
    def endpoints(self) -> list[str]:
        """Of the subscriptions that are alive, oldest first."""
        return [self._endpoint(c) for c in self._tokens.values() if not c.gone]

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 16)
        app.router.add_get("/", self._talk)
        app.router.add_post("/wpush/v2/{token}", self._post)
        self._runner = web.AppRunner(app, shutdown_timeout=1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self.host, 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        for ws in list(self._sockets.values()):
            with contextlib.suppress(ConnectionError):
                await ws.close(code=_CLOSED_ON_PURPOSE)
        await self._runner.cleanup()

    # --- for tests ---

    async def until(self, check: Callable[[], Any], timeout: float = 20.0) -> None:
        async with self._changed:
            async with asyncio.timeout(timeout):
                await self._changed.wait_for(check)

    async def delivered(self, count: int) -> None:
        """Wait until the browser has read that many messages in all."""
        await self.until(lambda: list(self.acks.values()).count(DELIVERED) >= count)

    def expire(self, endpoint: str) -> None:
        """Drop it without a word to the browser: from now on a push is answered with 410."""
        self._tokens[urlsplit(endpoint).path.rpartition("/")[2]].gone = True

    async def reset(self) -> None:
        """Forget the browser, as the service does with stale ones: it gets a new name when it
        connects again, drops its subscriptions and fires ``pushsubscriptionchange``."""
        for channels in self._agents.values():
            for channel in channels.values():
                channel.gone = True
        self._agents.clear()
        for ws in list(self._sockets.values()):
            await ws.close(code=1001)

    # --- the browser's side ---

    async def _talk(self, request: web.Request) -> web.StreamResponse:
        ws = web.WebSocketResponse(protocols=("push-notification",))
        await ws.prepare(request)
        agent = ""
        try:
            async for message in ws:
                if message.type is not WSMsgType.TEXT:
                    continue
                frame = json.loads(message.data)
                if frame.get("messageType") == "hello":
                    agent = await self._greet(ws, frame)
                else:
                    await self._answer(ws, agent, frame)
                await self._tell()
        finally:
            if self._sockets.get(agent) is ws:
                del self._sockets[agent]
        return ws

    async def _greet(self, ws: web.WebSocketResponse, frame: dict[str, Any]) -> str:
        agent: str = frame.get("uaid") or ""
        if agent not in self._agents:
            agent = uuid.uuid4().hex
            self._agents[agent] = {}
        self._sockets[agent] = ws
        hello = {"messageType": "hello", "status": 200, "uaid": agent, "use_webpush": True}
        await ws.send_json(hello | {"broadcasts": {}})
        for channel in self._agents[agent].values():
            for waiting in channel.waiting:
                await ws.send_json(waiting.frame())
        return agent

    async def _answer(self, ws: web.WebSocketResponse, agent: str, frame: dict[str, Any]) -> None:
        kind = frame.get("messageType", "ping")
        channels = self._agents.get(agent, {})
        if kind == "ping":
            await ws.send_str("{}")
        elif kind == "register":
            await ws.send_json(self._register(agent, channels, frame))
        elif kind == "unregister":
            if ended := channels.pop(frame["channelID"], None):
                ended.gone = True
            reply = {"messageType": kind, "channelID": frame["channelID"], "status": 200}
            await ws.send_json(reply)
        elif kind == "ack":
            for update in frame.get("updates", ()):
                self.acks[update["version"]] = update.get("code", DELIVERED)
                if channel := channels.get(update["channelID"]):
                    channel.waiting = [m for m in channel.waiting if m.id != update["version"]]

    def _register(
        self, agent: str, channels: dict[str, Channel], frame: dict[str, Any]
    ) -> dict[str, Any]:
        # Firefox may send one register twice, if a worker subscribes while it says hello: the
        # answer must then be the same endpoint.
        name, key = frame["channelID"], frame.get("key")
        channel = channels.get(name)
        if channel is None or channel.key != key:
            channel = channels[name] = Channel(name, agent, key)
            self._tokens[channel.token] = channel
        reply = {"messageType": "register", "channelID": name, "status": 200}
        return reply | {"pushEndpoint": self._endpoint(channel)}

    def _endpoint(self, channel: Channel) -> str:
        return f"{self.origin}/wpush/v2/{channel.token}"

    # --- the sender's side ---

    async def _post(self, request: web.Request) -> web.Response:
        channel = self._tokens.get(request.match_info["token"])
        if channel is None or channel.gone:
            return web.Response(status=404 if channel is None else 410)
        key = channel.key.rstrip("=") if channel.key else None
        try:
            verify_vapid(request.headers.get("Authorization", ""), self.origin, key)
        except ValueError as error:
            self.problems.append(str(error))
            return web.Response(status=401)
        topic = request.headers.get("Topic")
        ttl = int(request.headers["TTL"])
        message = Message(secrets.token_urlsafe(24), channel.id, ttl, topic, await request.read())
        self.accepted.append(message)
        if topic is not None:
            channel.waiting = [m for m in channel.waiting if m.topic != topic]
        channel.waiting.append(message)
        await self._forward(channel, message)
        await self._tell()
        return web.Response(status=201)

    async def _forward(self, channel: Channel, message: Message) -> None:
        """To the browser, if it is connected."""
        if ws := self._sockets.get(channel.agent):
            await ws.send_json(message.frame())

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()
