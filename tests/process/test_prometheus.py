"""A real Prometheus reads a real daemon, through kills, odd names and states that end."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from tests.support import daemon
from tests.support.daemon import DaemonProcess
from tests.support.load import LIMIT, Connection, snapshot, steady_port
from tests.support.postgres import Database
from tests.support.prometheus import Prometheus, check_metrics, scraping
from tests.support.waiting import eventually

TOKENS = [
    {"name": "apps", "token": "ingest-token-of-the-test", "scopes": ["ingest"]},
    {"name": "prometheus", "token": "metrics-token-of-the-test", "scopes": ["metrics"]},
]
INGEST, METRICS = (str(token["token"]) for token in TOKENS)
USED = "quotabell_quota_used_tokens"
# Also what ends lines elsewhere, a byte order mark, and letters outside the first plane.
ODD_NAMES = (
    'quote " and \\" done',
    "backslash \\ and \\\\n, no newline",
    "two\nlines\n",
    '{a="b"} 1\n# HELP up no',
    "tab\t return\r bell\x07 escape\x1b",
    "next\x85 line\u2028 paragraph\u2029 form\x0c",
    "日本語 العربية e\u0301 👩‍👩‍👧 \U0010ffff \ufeff",
    "'single' `back` $dollar %percent",
)


@pytest.fixture
async def scraped(database: Database, tmp_path: Path) -> AsyncIterator[DaemonProcess]:
    """A daemon on a port that it keeps."""
    config = daemon.write_config(
        tmp_path,
        database.dsn,
        listen=f"127.0.0.1:{steady_port()}",
        auth={"tokens": TOKENS},
        alerts={"evaluate_every": "500ms"},
    )
    async with daemon.process(config) as process:
        yield process


@pytest.fixture
async def prometheus(scraped: DaemonProcess, tmp_path: Path) -> AsyncIterator[Prometheus]:
    async with scraping(tmp_path / "prometheus", scraped.url, METRICS) as server:
        yield server


async def test_prometheus_follows_updates_kills_and_ends(
    prometheus: Prometheus, scraped: DaemonProcess, database: Database
) -> None:
    first = f'{USED}{{model="model-1"}}'
    await _report(scraped, "model-1", 250_000_000)
    await eventually(lambda: _is(prometheus, first, 250_000_000), every=0.1)
    ratio, limit = "quotabell_quota_used_ratio", "quotabell_quota_limit_tokens"
    labels = {"quota": "reported", "provider": "load", "model": "model-1"}  # no user: no label
    assert await prometheus.query(ratio) == [({"__name__": ratio} | labels, 0.25)]
    assert await prometheus.query(limit) == [({"__name__": limit} | labels, LIMIT)]

    await _report(scraped, "model-1", 500_000_000)
    await _report(scraped, "model-2", 7)
    await eventually(lambda: _is(prometheus, first, 500_000_000), every=0.1)

    await scraped.end(signal.SIGKILL)
    await eventually(lambda: _is(prometheus, "up", 0), every=0.1)
    assert await prometheus.query(first) == []
    await scraped.start()
    await eventually(lambda: _is(prometheus, first, 500_000_000), every=0.1)
    await _report(scraped, "model-1", 500_000_001)
    await eventually(lambda: _is(prometheus, first, 500_000_001), every=0.1)

    connection = await asyncpg.connect(database.admin_dsn)
    await connection.execute("delete from token_usage where model = 'model-1'")
    await connection.close()
    await eventually(lambda: _is(prometheus, f"count({USED})", 1), every=0.1)
    assert await prometheus.query(first) == []
    assert await prometheus.value(f'{USED}{{model="model-2"}}') == 7


async def test_any_name_reaches_prometheus_as_it_was_reported(
    prometheus: Prometheus, scraped: DaemonProcess
) -> None:
    connection = Connection(INGEST)
    for used, name in enumerate(ODD_NAMES):
        body = snapshot(name, used, provider=name, userId=name)
        answer = await connection.post(f"{scraped.url}/api/token-monitor/update", body)
        assert answer.status == 200, answer
    connection.abort()

    await eventually(lambda: _is(prometheus, f"count({USED})", len(ODD_NAMES)), every=0.1)

    series = await prometheus.query(USED)
    seen = {int(value): (s["provider"], s["model"], s["user"]) for s, value in series}
    assert seen == {used: (name, name, name) for used, name in enumerate(ODD_NAMES)}
    assert await prometheus.scrape_error() == ""


async def test_promtool_finds_nothing_to_say(scraped: DaemonProcess) -> None:
    assert check_metrics(await _metrics(scraped)) == ""

    await _report(scraped, 'two\nlines "quoted"', 1)

    text = await _metrics(scraped)
    assert USED in text.decode()
    assert check_metrics(text) == ""


def test_promtool_would_say_something() -> None:
    assert check_metrics(b"# TYPE lost_total gauge\nlost_total 1\n") != ""
    assert check_metrics(b'lost{name="unescaped " quote"} 1\n') != ""


async def _report(process: DaemonProcess, model: str, used: int) -> None:
    connection = Connection(INGEST)
    body = snapshot(model, used)
    answer = await connection.post(f"{process.url}/api/token-monitor/update", body)
    connection.abort()
    assert answer.status == 200, answer


async def _metrics(process: DaemonProcess) -> bytes:
    headers = {"Authorization": f"Bearer {METRICS}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.get(f"{process.url}/metrics") as response:
            assert response.status == 200
            return await response.read()


async def _is(prometheus: Prometheus, expression: str, wanted: float) -> bool:
    return await prometheus.value(expression) == wanted
