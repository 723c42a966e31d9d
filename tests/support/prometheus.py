"""A real Prometheus server for tests, and promtool."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.support.load import steady_port
from tests.support.waiting import eventually

Series = tuple[dict[str, str], float]
"""Labels, without those that Prometheus adds, and value."""


def program(name: str) -> str:
    """Where a program of Debian's packages of Prometheus is; skips the test if it is missing."""
    found = shutil.which(name)
    if found is not None:
        return found
    missing = f"{name} is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def check_metrics(text: bytes) -> str:
    """What ``promtool check metrics`` has to say about an exposition; '' is praise."""
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, timeout=30
    )
    said = (done.stdout + done.stderr).decode()
    return said or ("" if done.returncode == 0 else f"exit {done.returncode}")


class Prometheus:
    """A running server that scrapes one daemon every second."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url = url
        self._session = session

    async def query(self, expression: str) -> list[Series]:
        """An instant query's series."""
        found = await self.ask("query", query=expression)
        return [
            (
                {k: v for k, v in series["metric"].items() if k not in ("instance", "job")},
                float(series["value"][1]),
            )
            for series in found["result"]
        ]

    async def over_time(
        self, expression: str, start: float, end: float, step: float = 1.0
    ) -> list[tuple[dict[str, str], list[float]]]:
        """A range query's series, with their values."""
        found = await self.ask(
            "query_range", query=expression, start=str(start), end=str(end), step=str(step)
        )
        return [
            (series["metric"], [float(value) for _, value in series["values"]])
            for series in found["result"]
        ]

    async def value(self, expression: str) -> float | None:
        """The only series' value; None without any."""
        series = await self.query(expression)
        assert len(series) <= 1, series
        return series[0][1] if series else None

    async def scrape_error(self) -> str:
        """Why the last scrape failed; '' if it did not."""
        found = await self.ask("targets")
        return str(found["activeTargets"][0]["lastError"])

    async def dropped_samples(self) -> float:
        """How many samples it has dropped because a scrape had their series twice, or back in
        time."""
        async with self._session.get(f"{self.url}/metrics") as response:
            text = await response.text()
        name = r"prometheus_target_scrapes_sample_(?:duplicate_timestamp|out_of_order)_total"
        found = re.findall(rf"^{name} (.*)$", text, re.MULTILINE)
        assert len(found) == 2, text
        return sum(map(float, found))

    async def ask(self, what: str, **parameters: str) -> Any:
        """The data of its API's answer."""
        async with self._session.get(f"{self.url}/api/v1/{what}", params=parameters) as response:
            answer = await response.json()
        assert answer["status"] == "success", answer
        return answer["data"]


@contextlib.asynccontextmanager
async def scraping(folder: Path, daemon: str, token: str) -> AsyncIterator[Prometheus]:
    """A Prometheus that scrapes the daemon at this URL, with its storage in ``folder``."""
    scrape = {
        "job_name": "quotabell",
        "scrape_interval": "1s",
        "authorization": {"credentials": token},
        "static_configs": [{"targets": [daemon.removeprefix("http://")]}],
    }
    async with configured(folder, {"scrape_configs": [scrape]}) as server:
        yield server


@contextlib.asynccontextmanager
async def configured(folder: Path, content: Mapping[str, Any]) -> AsyncIterator[Prometheus]:
    """A Prometheus with this configuration, and its storage in ``folder``."""
    folder.mkdir()
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(content))
    address = f"127.0.0.1:{steady_port()}"
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program("prometheus"),
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        async with aiohttp.ClientSession() as session:
            server = Prometheus(f"http://{address}", session)
            await eventually(lambda: _answers(session, server.url), timeout=20)
            yield server
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def _answers(session: aiohttp.ClientSession, url: str) -> bool:
    async with session.get(f"{url}/-/ready") as response:
        return response.status == 200
