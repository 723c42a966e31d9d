"""The demonstration: what it shows, for whom it writes, and how it ends."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from quotabell.cli.demo_daemon import configuration
from quotabell.cli.team import MARK, MOST, USERS, Team
from quotabell.config import load
from tests.process.program import quotabell_begun, quotabell_run
from tests.process.terminal import command
from tests.support import daemon
from tests.support.load import steady_port
from tests.support.postgres import Database
from tests.support.waiting import eventually

EX_UNAVAILABLE, EX_NOPERM = 69, 77
DAY = 5.0  # seconds


def _day(seed: int) -> list[Any]:
    team = Team(seed, DAY, "run")
    return [team.tick(n / 10) for n in range(1, 50)]


def test_a_day_follows_from_its_seed_and_is_bounded() -> None:
    first = _day(1)

    assert first == _day(1)
    assert first != _day(2)
    assert max(len(tick.events) for tick in first) <= MOST
    for item in (item for tick in first for items in tick for item in items):
        assert item["userId"] in USERS
        assert item["provider"].startswith(MARK)
    ids = [event["id"] for tick in first for event in tick.events]
    assert len(ids) == len(set(ids)) > 100


async def test_a_daemon_without_quotas_rings_and_resolves_within_the_time(
    database: Database, tmp_path: Path
) -> None:
    path = daemon.write_config(tmp_path, database.tcp_dsn)
    async with daemon.running(load(path, {})) as process:
        done = await quotabell_run("demo", "--url", process.url, "--minutes", "0.05")
        told = await _history(process.url)

    assert (done.code, done.err) == (0, "")
    seen = Counter((item["kind"], item["transition"]) for item in told)
    assert seen["threshold", "firing"] >= 1
    assert seen["threshold", "resolved"] >= 1
    assert {item["userId"] for item in told} <= set(USERS)
    for words in ("made-up usage", "is resolved", "/metrics", f"forget --yes {' '.join(USERS)}"):
        assert words in done.out
    connection = await asyncpg.connect(database.dsn)
    try:
        for table in ("usage_events", "token_totals", "token_usage"):
            users = await connection.fetch(f"select distinct user_id from {table}")
            assert {row["user_id"] for row in users} == set(USERS), table
        cost = await connection.fetchval("select sum(cost_usd) from token_totals")
        assert cost > 0
    finally:
        await connection.close()


async def test_the_quotas_of_the_demonstration_make_a_forecast_fire(
    database: Database, tmp_path: Path
) -> None:
    sections = configuration("127.0.0.1:0", tmp_path / "data", datetime.now(UTC))
    path = daemon.write_config(tmp_path, database.tcp_dsn, **sections)
    async with daemon.process(path) as process:
        fed = await quotabell_run("demo", "--url", process.url, "--minutes", "0.05")
        # A daemon measures the burn when it starts, and then once a minute.
        await process.end()
        await process.start()
        url = process.url

        async def foretold() -> bool:
            seen = {(i["kind"], i["data"].get("quota")) for i in await _history(url)}
            return ("forecast", "demo-team") in seen

        await eventually(foretold, timeout=30)

    assert fed.code == 0, fed.err


async def test_the_demonstration_brings_a_daemon_and_takes_it_along() -> None:
    port = steady_port()
    address = f"127.0.0.1:{port}"
    async with quotabell_begun("demo", "--serve", address) as demo:
        assert demo.stdout is not None
        async with asyncio.timeout(60):
            await demo.stdout.readuntil(b"Watch it at")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{address}/api/token-monitor/quotas") as reply:
                quotas = await reply.json()
        demo.send_signal(signal.SIGINT)
        out, err = await asyncio.wait_for(demo.communicate(), 40)

    assert (demo.returncode, err) == (0, b"")
    assert {quota["name"] for quota in quotas["items"]} == {"demo-team", "demo-daily"}
    assert b"calls of" in out
    assert b"its data is removed" in out
    away = await command("status", "--url", f"http://{address}")
    assert away.code == EX_UNAVAILABLE


async def test_the_demonstration_says_what_it_lacks(database: Database, tmp_path: Path) -> None:
    tokens = [{"name": "ada", "token": "token-of-one-person", "scopes": ["ingest"], "user": "ada"}]
    path = daemon.write_config(tmp_path, database.tcp_dsn, auth={"tokens": tokens})
    async with daemon.running(load(path, {})) as process:
        bound = await quotabell_run(
            *("demo", "--url", process.url), environment={"QUOTABELL_TOKEN": "token-of-one-person"}
        )
    away = await quotabell_run("demo", "--url", f"http://127.0.0.1:{steady_port()}")

    assert bound.code == EX_NOPERM
    assert "without a user" in bound.err
    assert away.code == EX_UNAVAILABLE
    assert "quotabell serve" in away.err


async def _history(url: str) -> list[Any]:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/api/push/history") as reply:
            return list((await reply.json())["items"])
