"""A client of a daemon for tests, over its real port."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from quotabell.config import Config
from tests.support.daemon import running

UPDATE = "/api/token-monitor/update"
STATUS = "/api/token-monitor/status"


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def data(self) -> Any:
        """The data of an acknowledged update."""
        assert self.status == 200, (self.status, self.body)
        assert self.json["success"] is True
        return self.json["data"]

    def problem(self, status: int) -> Any:
        """The problem document (RFC 9457) of a failed request."""
        assert self.status == status, (self.status, self.body)
        assert self.headers["Content-Type"] == "application/problem+json"
        found = self.json
        assert found["status"] == status
        assert found["type"] == "about:blank"
        assert found["title"]
        assert found["detail"]
        return found

    def fields(self, status: int = 422) -> set[tuple[str, int | None]]:
        """The offending fields of a problem, each with the index of its item."""
        return {(e["field"], e.get("index")) for e in self.problem(status)["errors"]}


@dataclass(slots=True)
class Client:
    """Calls one daemon, with a token if it has one."""

    session: aiohttp.ClientSession
    url: str
    headers: dict[str, str] = field(default_factory=dict)

    def with_token(self, token: str) -> Client:
        return Client(self.session, self.url, {"Authorization": f"Bearer {token}"})

    async def call(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Reply:
        async with self.session.request(
            method, self.url + path, headers={**self.headers, **(headers or {})}, **options
        ) as answer:
            return Reply(answer.status, answer.headers.copy(), await answer.read())

    async def get(self, path: str, **options: Any) -> Reply:
        return await self.call("GET", path, **options)

    async def post(self, path: str, **options: Any) -> Reply:
        return await self.call("POST", path, **options)

    async def update(self, body: Any, **options: Any) -> Reply:
        """Report a snapshot or a list of them; bytes and text are sent as they are."""
        if isinstance(body, bytes | str):
            options.setdefault("headers", {})
            options["headers"] = {"Content-Type": "application/json", **options["headers"]}
            return await self.post(UPDATE, data=body, **options)
        return await self.post(UPDATE, json=body, **options)

    async def samples(self, *parts: str) -> list[Any]:
        """The samples of ``/metrics``: name, labels, value."""
        reply = await self.get("/metrics", params=[("collect[]", part) for part in parts])
        assert reply.status == 200, reply.body
        families = text_string_to_metric_families(reply.body.decode())
        return [sample for family in families for sample in family.samples]

    async def metric(self, name: str, **labels: str) -> float | None:
        """The sum of a metric's samples with these labels; None without any."""
        found = [
            s.value
            for s in await self.samples()
            if s.name == name and labels.items() <= s.labels.items()
        ]
        return sum(found) if found else None


def snapshot(**changes: Any) -> dict[str, Any]:
    """The original's example body, changed."""
    return {
        "provider": "grok",
        "model": "grok-3",
        "tokensUsed": 1000,
        "tokenLimit": 10000,
    } | changes


@contextlib.asynccontextmanager
async def serving(config: Config, **options: Any) -> AsyncIterator[Client]:
    """A daemon in this process and a client of it, whose connections are closed first."""
    async with running(config, **options) as daemon:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield Client(session, daemon.url)


async def raw(url: str, request: bytes, timeout: float = 10.0) -> tuple[int, bytes]:
    """Send bytes as they are; the status and all that came back until the daemon closed."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        async with asyncio.timeout(timeout):
            answer = await reader.read()
    finally:
        writer.close()
    return int(answer.split(b" ", 2)[1]), answer
