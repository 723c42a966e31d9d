"""A real Prometheus reads sums that never fall and quotas whose periods end."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.support import daemon
from tests.support.daemon import DaemonProcess
from tests.support.load import Connection, steady_port
from tests.support.postgres import Database
from tests.support.prometheus import Prometheus, scraping
from tests.support.waiting import eventually

TOKENS = [
    {"name": "apps", "token": "ingest-token-of-the-test", "scopes": ["ingest"]},
    {"name": "prometheus", "token": "metrics-token-of-the-test", "scopes": ["metrics"]},
]
INGEST, METRICS = (str(token["token"]) for token in TOKENS)
DAILY = {"name": "daily", "limit": 1_000_000, "window": "day", "per": ["user"]}
SUMS = ("quotabell_tokens_total", "quotabell_requests_total", "quotabell_cost_usd_total")
KINDS = ("inputTokens", "cacheReadTokens", "outputTokens", "reasoningTokens")
USED = "quotabell_quota_used_tokens"
RESET = "quotabell_quota_reset_timestamp_seconds"


@pytest.fixture
async def replicas(database: Database, tmp_path: Path) -> AsyncIterator[list[DaemonProcess]]:
    """Two daemons on one database; Prometheus reads the first."""
    async with AsyncExitStack() as stack:
        made = []
        for name in ("one", "other"):
            config = daemon.write_config(
                tmp_path / name,
                database.dsn,
                listen=f"127.0.0.1:{steady_port()}",
                auth={"tokens": TOKENS},
                quotas=[DAILY],
                alerts={"evaluate_every": "500ms"},
            )
            made.append(await stack.enter_async_context(daemon.process(config)))
        yield made


@pytest.fixture
async def prometheus(replicas: list[DaemonProcess], tmp_path: Path) -> AsyncIterator[Prometheus]:
    async with scraping(tmp_path / "prometheus", replicas[0].url, METRICS) as server:
        yield server


async def test_no_sum_ever_falls_through_corrections_kills_and_replicas(
    prometheus: Prometheus, replicas: list[DaemonProcess]
) -> None:
    """Every correction is larger in all, has fewer tokens of every kind but one, and costs less."""
    for number in range(30):
        for step in range(4):
            kinds = dict.fromkeys(KINDS, 400 - 100 * step)
            kinds[KINDS[step]] = 2_000 * (step + 1)
            to = replicas[(number + step) % 2]
            await _use(to, f"call-{number}", "alice", costUsd=10 - step, **kinds)
        if number % 10 == 9:
            victim = replicas[number // 10 % 2]
            await victim.end(signal.SIGKILL if number % 20 == 9 else signal.SIGTERM)
            await victim.start()
        await eventually(partial(_seen, prometheus, number + 1), every=0.05)
    for family in SUMS:
        assert {value for _, value in await prometheus.query(f"resets({family}[10m])")} == {0}
        changes = await prometheus.query(f"changes({family}[10m])")
        assert max(value for _, value in changes) > 5  # it looked after every call
    assert await prometheus.scrape_error() == ""


async def test_when_a_period_ends_there_is_just_one_series_a_subject_at_every_scrape(
    prometheus: Prometheus, replicas: list[DaemonProcess]
) -> None:
    """The window is hours from a moment that comes within the test."""
    turn = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=9)
    _configure(replicas[0], DAILY | {"window": "1h", "anchor": turn.isoformat()})
    await _use(replicas[0], "first", "alice", inputTokens=500)
    await _use(replicas[1], "second", "bob", inputTokens=40)
    await eventually(lambda: _shown(prometheus, {"alice": 500, "bob": 40}), every=0.1)
    assert datetime.now(UTC) < turn - timedelta(seconds=1)

    scrapes = [await _scraped(replicas[0]) for _ in range(2)]
    while datetime.now(UTC) < turn + timedelta(seconds=2):
        scrapes.append(await _scraped(replicas[0]))
        await asyncio.sleep(0.02)
    await eventually(lambda: _shown(prometheus, {"alice": 0, "bob": 0}), every=0.1)
    await _use(replicas[1], "third", "bob", inputTokens=3)
    await eventually(lambda: _shown(prometheus, {"alice": 0, "bob": 3}), every=0.1)

    before = {"alice": (500, turn.timestamp()), "bob": (40, turn.timestamp())}
    after = {user: (0, turn.timestamp() + 3600) for user in before}
    assert len(scrapes) > 20
    assert [s for s in scrapes if s not in (before, after)] == []
    assert (scrapes[0], scrapes[-1]) == (before, after)
    assert scrapes == sorted(scrapes, key=after.__eq__)  # and never back
    assert await prometheus.scrape_error() == ""
    assert await prometheus.dropped_samples() == 0


def _configure(process: DaemonProcess, quota: dict[str, Any]) -> None:
    content = yaml.safe_load(process.config.read_text()) | {"quotas": [quota]}
    process.config.write_text(yaml.safe_dump(content))
    process.send(signal.SIGHUP)


async def _use(process: DaemonProcess, call: str, user: str, **more: Any) -> None:
    at = datetime.now(UTC) - timedelta(milliseconds=1)
    body = {"id": call, "time": at.isoformat(), "provider": "openai", "model": "gpt-5"}
    connection = Connection(INGEST)
    answer = await connection.post(
        f"{process.url}/api/token-monitor/events",
        json.dumps(body | {"userId": user} | more).encode(),
    )
    connection.abort()
    assert answer.status == 200, answer


async def _seen(prometheus: Prometheus, calls: int) -> bool:
    return await prometheus.value("sum(quotabell_requests_total)") == calls


async def _shown(prometheus: Prometheus, wanted: dict[str, float]) -> bool:
    series = await prometheus.query(USED)
    return {labels["user"]: value for labels, value in series} == wanted


async def _scraped(process: DaemonProcess) -> dict[str, tuple[float, float]]:
    """What is used and when the period ends, by user; AssertionError if a series comes twice."""
    headers = {"Authorization": f"Bearer {METRICS}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(f"{process.url}/metrics?collect[]=usage") as response:
            text = await response.text()
    found: dict[str, dict[str, float]] = {}
    for family in (USED, RESET):
        series = re.findall(rf'^{family}{{.*user="(.*)"}} (.*)$', text, re.MULTILINE)
        assert len(dict(series)) == len(series), text
        found[family] = {user: float(value) for user, value in series}
    assert found[USED].keys() == found[RESET].keys(), text
    return {user: (used, found[RESET][user]) for user, used in found[USED].items()}
