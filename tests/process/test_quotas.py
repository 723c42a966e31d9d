"""Quotas from the file to ``/metrics``, while they change, and counted anew on command."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
import yaml

from tests.process.program import Done, quotabell_run
from tests.support import daemon
from tests.support.daemon import DaemonProcess
from tests.support.postgres import Database
from tests.support.waiting import eventually

EVENTS = "/api/token-monitor/events"
DAILY = {"name": "daily", "limit": 1_000, "window": "day", "per": ["user"]}


class Metered:
    """A daemon process, its file, and its clients."""

    def __init__(self, process: DaemonProcess, session: aiohttp.ClientSession) -> None:
        self._process = process
        self._session = session

    async def use(self, user: str, tokens: int) -> None:
        time = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        call = {"provider": "openai", "model": "gpt-5", "userId": user, "inputTokens": tokens}
        async with self._session.post(
            self._process.url + EVENTS, json=call | {"time": time}
        ) as reply:
            assert reply.status == 200, await reply.text()

    async def configure(self, *quotas: dict[str, Any]) -> None:
        """Reload with these quotas; the answer comes before states follow them."""
        content = yaml.safe_load(self._process.config.read_text()) | {"quotas": list(quotas)}
        self._process.config.write_text(yaml.safe_dump(content))
        async with self._session.post(self._process.url + "/-/reload") as reply:
            assert reply.status == 204, await reply.text()

    async def series(self, name: str) -> dict[str, float]:
        """The values of a family by ``quota/user``."""
        async with self._session.get(self._process.url + "/metrics") as reply:
            text = await reply.text()
        pattern = rf'^{name}\{{quota="(.*?)",.*?user="(.*?)"\}} (\S+)$'
        found = re.findall(pattern, text, re.MULTILINE)
        return {f"{quota}/{user}": float(value) for quota, user, value in found}

    async def used(self) -> dict[str, float]:
        return await self.series("quotabell_quota_used_tokens")

    async def recount(self, *arguments: str) -> Done:
        return await quotabell_run("recount", "--config", self._process.config, *arguments)


@pytest.fixture
async def metered(database: Database, tmp_path: Path) -> AsyncIterator[Metered]:
    path = daemon.write_config(tmp_path, database.tcp_dsn, quotas=[DAILY])
    async with daemon.process(path) as process, aiohttp.ClientSession() as session:
        yield Metered(process, session)


async def test_a_scrape_shows_what_a_quota_has_counted(metered: Metered) -> None:
    await metered.use("alice", 250)
    await metered.use("bob", 10)
    await metered.use("alice", 250)

    assert await metered.used() == {"daily/alice": 500, "daily/bob": 10}
    assert await metered.series("quotabell_quota_used_ratio") == {
        "daily/alice": 0.5,
        "daily/bob": 0.01,
    }
    ends = (await metered.series("quotabell_quota_reset_timestamp_seconds")).values()
    assert 0 < min(ends) - datetime.now(UTC).timestamp() <= 24 * 3600


async def test_a_reload_brings_other_quotas_and_counts_the_past_for_them(
    metered: Metered,
) -> None:
    await metered.use("alice", 500)
    await metered.configure(
        DAILY | {"limit": 2_000},
        {"name": "all", "limit": 100, "window": "month", "weights": {"input": 2}},
    )

    async def followed() -> bool:
        limits = await metered.series("quotabell_quota_limit_tokens")
        return await metered.used() == {"daily/alice": 500, "all/": 1_000} and limits == {
            "daily/alice": 2_000,
            "all/": 100,
        }

    assert await eventually(followed)
    await metered.configure()

    async def gone() -> bool:
        return not await metered.used()

    assert await eventually(gone)


async def test_recount_mends_what_somebody_spoiled(metered: Metered, database: Database) -> None:
    await metered.use("alice", 500)

    async def agree() -> bool:
        return (await metered.recount("--check")).code == 0

    assert await eventually(agree, timeout=20)
    connection = await asyncpg.connect(database.admin_dsn)
    try:
        await connection.execute("update token_usage set tokens_used = 7 where quota = 'daily'")
    finally:
        await connection.close()

    wrong = await metered.recount("--check")
    assert wrong.code == 1
    assert "daily (alice)" in wrong.out
    assert "holds 7, its events weigh 500" in wrong.out

    mended = await metered.recount()
    assert (mended.code, mended.err) == (0, "")
    assert "daily: counted anew" in mended.out
    assert "1 open counters compared with their events: all agree" in mended.out


async def test_recount_knows_the_quotas_in_force_only(metered: Metered) -> None:
    done = await metered.recount("weekly")

    assert done.code == 1
    assert done.err == "quotabell: no quota in force is named weekly; there are: daily\n"
