"""Real clients against a real daemon: what they count is what their provider said.

The clients have an interpreter of their own (`make clients`), because they bring 350 MB that
Quotabell itself has no use for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from quotabell.formats import otlp_answer
from tests.http.client import Client
from tests.support.daemon import DaemonProcess, process, write_config
from tests.support.load import steady_port
from tests.support.postgres import TEMPLATE, Cluster, Database, connected
from tests.support.waiting import eventually

HERE = Path(__file__).parent
TOKEN = "token-of-the-clients"
TOKENS = [
    {"name": "apps", "token": TOKEN, "scopes": ["ingest"]},
    {"name": "prometheus", "token": "token-of-prometheus", "scopes": ["metrics"]},
]


def interpreter() -> str:
    """The Python that has the clients; skips the test if there is none."""
    found = os.environ.get("CLIENTS_PYTHON") or HERE.parents[1] / ".venv-clients/bin/python"
    if Path(found).exists():
        return str(found)
    missing = "the clients are not installed: make clients"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture
def own_database(postgres_18: Cluster) -> Iterator[Database]:
    database = postgres_18.create_database(TEMPLATE)
    yield database
    postgres_18.drop_database(database.name)


@pytest.fixture
async def daemon(own_database: Database, tmp_path: Path) -> AsyncIterator[DaemonProcess]:
    config = write_config(
        tmp_path / "daemon",
        own_database.dsn,
        listen=f"127.0.0.1:{steady_port()}",
        auth={"tokens": TOKENS},
    )
    async with process(config) as running:
        yield running


@dataclass(slots=True)
class Provider:
    """Answers chats as OpenAI does, each with other counts, and keeps their sums."""

    url: str = ""
    calls: int = 0
    told: dict[str, int] = field(default_factory=dict)

    def has_had(self, calls: int) -> bool:
        return self.calls >= calls

    async def chat(self, request: web.Request) -> web.Response:
        self.calls += 1
        n = self.calls
        kinds = {"input": n, "cache_read": 2 * n, "output": 3 * n, "reasoning": n}
        for kind, tokens in kinds.items():
            self.told[kind] = self.told.get(kind, 0) + tokens
        usage = {
            "prompt_tokens": 3 * n,
            "completion_tokens": 4 * n,
            "total_tokens": 7 * n,
            "prompt_tokens_details": {"cached_tokens": 2 * n},
            "completion_tokens_details": {"reasoning_tokens": n},
        }
        message = {"role": "assistant", "content": "hi"}
        return web.json_response(
            {
                "id": f"chatcmpl-{n}",
                "object": "chat.completion",
                "created": 1_700_000_000,
                "model": "gpt-5-2026-08-07",
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": usage,
            }
        )


@contextlib.asynccontextmanager
async def serving(
    path: str, handler: Callable[[web.Request], Awaitable[web.Response]]
) -> AsyncIterator[str]:
    """The URL of a server that answers POSTs of one path."""
    app = web.Application()
    app.router.add_post(path, handler)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    made = Provider()
    async with serving("/v1/chat/completions", made.chat) as url:
        made.url = f"{url}/v1"
        yield made


@contextlib.asynccontextmanager
async def program(name: str, *arguments: str, **settings: str) -> AsyncIterator[Any]:
    """A client's program with these settings; killed at the end if it still runs."""
    own = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "PYTHON", "CI"))}
    running = await asyncio.create_subprocess_exec(
        *(interpreter(), str(HERE / name), *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=own | settings,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.send_signal(signal.SIGKILL)
        await running.wait()


async def totals(daemon: DaemonProcess, model: str) -> dict[str, float]:
    """The tokens of a model by kind, as Prometheus sees them."""
    async with aiohttp.ClientSession() as session:
        client = Client(session, daemon.url).with_token("token-of-prometheus")
        found: dict[str, float] = {}
        for s in await client.samples("usage"):
            if s.name == "quotabell_tokens_total" and s.labels["model"] == model and s.value:
                found[s.labels["kind"]] = found.get(s.labels["kind"], 0) + s.value
        return found


async def test_what_litellm_says_is_what_is_counted(daemon: DaemonProcess) -> None:
    async with program(
        "with_litellm.py",
        "20",
        GENERIC_LOGGER_ENDPOINT=f"{daemon.url}/api/ingest/litellm",
        GENERIC_LOGGER_HEADERS=f"Authorization=Bearer {TOKEN}",
        DEFAULT_FLUSH_INTERVAL_SECONDS="1",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    ) as client:
        async with asyncio.timeout(120):
            out, _ = await client.communicate()
    told = json.loads(out.splitlines()[-1])

    assert await totals(daemon, "gpt-4o") == {"input": told[0], "output": told[1]}


@pytest.mark.parametrize("signals", ["traces", "metrics", "traces,metrics"])
async def test_what_the_provider_says_is_what_is_counted_although_the_daemon_is_killed(
    daemon: DaemonProcess, provider: Provider, signals: str
) -> None:
    async with program(
        "with_opentelemetry.py",
        signals,
        OTEL_EXPORTER_OTLP_ENDPOINT=daemon.url,
        OTEL_EXPORTER_OTLP_HEADERS=f"authorization=Bearer {TOKEN}",
        # Exporters give up after 10 s, in which a busy machine may not have started the daemon.
        OTEL_EXPORTER_OTLP_TIMEOUT="60",
        OPENAI_BASE_URL=provider.url,
    ) as client:
        await _counting(daemon, provider)
        for _ in range(2):
            await daemon.end(signal.SIGKILL)
            await eventually(partial(provider.has_had, provider.calls + 5), timeout=30)
            await daemon.start()
            await _counting(daemon, provider)
        async with asyncio.timeout(60):
            out, _ = await client.communicate(b"\n")
    assert out.splitlines()[-1] == b"sent"

    counted = await totals(daemon, "gpt-5")
    if signals == "traces":
        assert counted == provider.told
    together = sum(provider.told.values())
    assert sum(counted.values()) == together


# LiteLLM takes ten seconds to start on a busy machine.
@pytest.mark.parametrize(
    ("name", "kills"), [("killed_opentelemetry.py", 2), ("killed_litellm.py", 1)]
)
async def test_a_killed_client_that_sends_again_counts_each_call_once(
    daemon: DaemonProcess,
    own_database: Database,
    provider: Provider,
    tmp_path: Path,
    name: str,
    kills: int,
) -> None:
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": daemon.url,
        "OTEL_EXPORTER_OTLP_HEADERS": f"authorization=Bearer {TOKEN}",
        "GENERIC_LOGGER_ENDPOINT": f"{daemon.url}/api/ingest/litellm",
        "GENERIC_LOGGER_HEADERS": f"Authorization=Bearer {TOKEN}",
        "DEFAULT_FLUSH_INTERVAL_SECONDS": "1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OPENAI_BASE_URL": provider.url,
    }
    for _ in range(kills):
        async with program(name, str(tmp_path), **settings):
            await eventually(partial(provider.has_had, provider.calls + 3), timeout=120)
            await _counting(daemon, provider)
        # It was killed here, with calls under way and some that it had not sent.
    async with program(name, str(tmp_path), **settings) as client:
        await eventually(partial(provider.has_had, provider.calls + 3), timeout=120)
        async with asyncio.timeout(120):
            out, _ = await client.communicate(b"\n")
    assert out.splitlines()[-1] == b"sent"

    async with connected(own_database.dsn) as connection:
        rows = await connection.fetch(
            "select input, cache_read, cache_write, output, reasoning, other from usage_events"
        )
    calls = [row["input"] for row in rows]  # the provider's n-th call took n of input
    assert sorted(map(tuple, rows)) == [(n, 2 * n, 0, 3 * n, n, 0) for n in sorted(calls)]
    assert len(set(calls)) == len(calls), "a call was counted twice"
    assert max(calls) <= provider.calls
    acknowledged = (tmp_path / "acknowledged").read_text().split()
    assert {int(told.removeprefix("chatcmpl-")) for told in acknowledged} <= set(calls)
    assert sum((await totals(daemon, "gpt-5")).values()) == 7 * sum(calls)


async def test_what_litellms_otel_callback_says_is_what_the_provider_said(
    daemon: DaemonProcess, provider: Provider
) -> None:
    async with program(
        "with_litellm_otel.py",
        "5",
        OTEL_EXPORTER="otlp_http",
        OTEL_ENDPOINT=f"{daemon.url}/v1/traces",
        OTEL_HEADERS=f"authorization=Bearer {TOKEN}",
        LITELLM_LOCAL_MODEL_COST_MAP="True",
        OPENAI_BASE_URL=provider.url,
    ) as client:
        async with asyncio.timeout(120):
            out, _ = await client.communicate()
    assert out.splitlines()[-1] == b"sent"

    assert provider.calls == 5
    assert await totals(daemon, "gpt-5") == provider.told


async def test_the_sdk_of_cloudevents_is_understood_in_each_of_its_modes(
    daemon: DaemonProcess,
) -> None:
    url = f"{daemon.url}/api/ingest/cloudevents"
    async with program("with_cloudevents.py", url, TOKEN) as client:
        async with asyncio.timeout(60):
            out, _ = await client.communicate()
    assert out.splitlines()[-1] == b"sent"

    assert await totals(daemon, "gpt-5") == {"input": 14, "output": 4}
    async with aiohttp.ClientSession() as session:
        scraper = Client(session, daemon.url).with_token("token-of-prometheus")
        requests = await scraper.metric("quotabell_requests_total", user='Jürgen "J" 100%')
    assert requests == 2


REFUSALS = (400, 401, 403, 413, 415)
RETRIED = (429, 502, 503, 504)


async def test_exporters_repeat_only_what_they_are_asked_to_repeat() -> None:
    asked: Counter[int] = Counter()

    async def answer(request: web.Request) -> web.Response:
        status = int(request.match_info["status"])
        asked[status] += 1
        if status in RETRIED and asked[status] > 1:
            return web.Response(content_type="application/x-protobuf")
        body = otlp_answer.status(status, "for this test", as_json=False)
        headers = {"Retry-After": "1"} if status in RETRIED else {}
        return web.Response(
            status=status, body=body, headers=headers, content_type="application/x-protobuf"
        )

    async with serving("/{status}/v1/traces", answer) as url:
        urls = [f"{url}/{status}/v1/traces" for status in (*REFUSALS, *RETRIED)]
        async with program("refused_exports.py", *urls) as client, asyncio.timeout(90):
            out, _ = await client.communicate()

    assert json.loads(out.splitlines()[-1]) == [False] * len(REFUSALS) + [True] * len(RETRIED)
    assert asked == dict.fromkeys(REFUSALS, 1) | dict.fromkeys(RETRIED, 2)


async def _counting(daemon: DaemonProcess, provider: Provider) -> None:
    """Wait until calls that are made from now on have been counted."""
    await eventually(lambda: provider.calls > 0, timeout=60)
    before = sum(provider.told.values())

    async def counted() -> bool:
        return sum((await totals(daemon, "gpt-5")).values()) > before

    await eventually(counted, timeout=30, every=0.2)
