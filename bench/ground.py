"""What the sides of a measurement run on: a durable Postgres, the daemon, its peers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from tests.drills import ground
from tests.drills.ground import DurableCluster
from tests.support import daemon
from tests.support.postgres import Database

from quotabell.store.embedded_cluster import tuning

TOKEN = "token-of-the-benchmark"
BEARER = {"Authorization": f"Bearer {TOKEN}"}

__all__ = ["BEARER", "body", "durable_cluster", "ours", "peer", "report"]


def durable_cluster() -> contextlib.AbstractContextManager[DurableCluster]:
    """A running one, set up as the embedded server is; removed at the end."""
    return ground.durable_cluster(**tuning())


@contextlib.asynccontextmanager
async def ours(folder: Path, database: Database, **sections: Any) -> AsyncIterator[str]:
    """The URL of a daemon that asks for `TOKEN`, with further sections of its configuration."""
    config = daemon.write_config(
        folder,
        database.dsn,
        auth={"tokens": [{"name": "bench", "token": TOKEN, "scopes": ["ingest", "metrics"]}]},
        **sections,
    )
    async with daemon.process(config) as process:
        try:
            yield process.url
            assert await process.end() == 0
        except BaseException:
            print(process.log_file.read_text()[-3000:], file=sys.stderr)
            raise


@contextlib.asynccontextmanager
async def peer(name: str, *arguments: str) -> AsyncIterator[str]:
    """What the module ``bench.peers.name`` says first, running: its URL."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"bench.peers.{name}", *arguments), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(600):  # with a million series to make
            said = (await process.stdout.readline()).decode().strip()
        assert said, f"{name} did not start"
        yield said
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def report(number: int, used: int = 1000) -> dict[str, Any]:
    """A snapshot of one of the keys."""
    return {
        "provider": "openai",
        "model": f"gpt-{number % 10}",
        "userId": f"user-{number:06}",
        "tokensUsed": used,
        "tokenLimit": 1_000_000,
    }


def body(*numbers: int) -> bytes:
    """One report as an object, several as an array."""
    reports = [report(number) for number in numbers]
    return json.dumps(reports if len(reports) > 1 else reports[0]).encode()
