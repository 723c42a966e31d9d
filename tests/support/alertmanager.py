"""A real Alertmanager for tests."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.support.load import steady_port
from tests.support.prometheus import program
from tests.support.waiting import eventually


class Alertmanager:
    """A running replica that knows no other."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def alerts(self) -> list[dict[str, Any]]:
        """The alerts that fire."""
        async with self._session.get(f"{self.url}/api/v2/alerts") as response:
            found: list[dict[str, Any]] = await response.json()
        return found

    async def firing(self) -> list[str]:
        """Their summaries."""
        return sorted(alert["annotations"]["summary"] for alert in await self.alerts())


@contextlib.asynccontextmanager
async def alertmanager(folder: Path, webhook: str) -> AsyncIterator[Alertmanager]:
    """One that tells a webhook at once, with its storage in ``folder``."""
    folder.mkdir()
    config = folder / "alertmanager.yml"
    route = {
        "receiver": "test",
        "group_by": ["..."],
        "group_wait": "0s",
        "group_interval": "1s",
        "repeat_interval": "1h",
    }
    receiver = {"name": "test", "webhook_configs": [{"url": webhook, "send_resolved": True}]}
    config.write_text(yaml.safe_dump({"route": route, "receivers": [receiver]}))
    address = f"127.0.0.1:{steady_port()}"
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program("prometheus-alertmanager"),
            f"--config.file={config}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession() as session:
            server = Alertmanager(f"http://{address}", session)
            await eventually(lambda: _answers(session, server.url), timeout=20)
            yield server
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    async with session.get(f"{url}/-/ready") as response:
        return response.status == 200
