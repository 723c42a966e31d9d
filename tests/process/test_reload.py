"""A changed configuration is taken over without a restart, a bad one not at all."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from tests.support import daemon
from tests.support.daemon import DaemonProcess
from tests.support.postgres import Database
from tests.support.waiting import eventually

ADMIN = "admin-token-of-the-test"
SUCCESSFUL = "quotabell_config_last_reload_successful"
OLD, NEW = "old-ingest-token-of-the-test", "new-ingest-token-of-the-test"


class Reloading:
    """A daemon and the file that it reads."""

    def __init__(self, process: DaemonProcess, session: aiohttp.ClientSession) -> None:
        self._process = process
        self._session = session
        self._original = yaml.safe_load(process.config.read_text())

    def write(self, token: str = OLD, **sections: Any) -> None:
        """Replace the file: as it was at the start, but for this token and these sections."""
        content = self._original | {"auth": {"tokens": tokens(token)}} | sections
        self._process.config.write_text(yaml.safe_dump(content))

    def hang_up(self) -> None:
        os.kill(self._process.pid, signal.SIGHUP)

    async def reload(self) -> tuple[int, Any]:
        return await self._ask("POST", "/-/reload", ADMIN)

    async def config(self) -> str:
        status, text = await self._ask("GET", "/-/config", ADMIN)
        assert status == 200
        return str(text)

    async def report(self, token: str) -> int:
        """The status of a report."""
        path = "/api/token-monitor/update"
        return (await self._ask("POST", path, token, json=daemon.SNAPSHOT))[0]

    async def gauge(self, name: str) -> float:
        _, text = await self._ask("GET", "/metrics", ADMIN)
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        assert found is not None
        return float(found[1])

    async def _ask(self, method: str, path: str, token: str, **more: Any) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"}
        url = self._process.url + path
        async with self._session.request(method, url, headers=headers, **more) as response:
            return response.status, await response.text()


def tokens(ingest: str) -> list[dict[str, Any]]:
    return [
        {"name": "ops", "token": ADMIN, "scopes": ["admin"]},
        {"name": "apps", "token": ingest, "scopes": ["ingest"]},
    ]


@pytest.fixture
async def reloading(database: Database, tmp_path: Path) -> AsyncIterator[Reloading]:
    path = daemon.write_config(tmp_path, database.tcp_dsn, auth={"tokens": tokens(OLD)})
    async with daemon.process(path) as process, aiohttp.ClientSession() as session:
        yield Reloading(process, session)


async def test_sighup_takes_over_a_good_file_and_keeps_on_without_a_bad_one(
    reloading: Reloading,
) -> None:
    assert (await reloading.report(OLD), await reloading.report(NEW)) == (200, 401)

    reloading.write(NEW, thresholds={"default": ["many"]})
    reloading.hang_up()

    assert await eventually(lambda: _is(reloading.gauge(SUCCESSFUL), 0))
    assert (await reloading.report(OLD), await reloading.report(NEW)) == (200, 401)

    reloading.write(NEW)
    reloading.hang_up()

    assert await eventually(lambda: _is(reloading.gauge(SUCCESSFUL), 1))
    assert (await reloading.report(OLD), await reloading.report(NEW)) == (401, 200)


async def test_reloading_by_http_answers_with_the_problems(
    reloading: Reloading, tmp_path: Path
) -> None:
    reloading.write(thresholds={"default": ["many"]}, lissten="nowhere")

    status, text = await reloading.reload()

    assert status == 422
    problem = json.loads(text)
    assert problem["status"] == 422
    assert {error["field"] for error in problem["errors"]} == {"thresholds.default[0]", "lissten"}
    assert await reloading.gauge(SUCCESSFUL) == 0

    reloading.write(thresholds={"default": [50]})

    assert await reloading.reload() == (204, "")
    assert await reloading.gauge(SUCCESSFUL) == 1

    (tmp_path / "quotabell.yaml").unlink()

    status, text = await reloading.reload()

    assert status == 422
    assert "quotabell.yaml" in text
    assert await reloading.report(OLD) == 200


async def test_a_daemon_that_others_reach_keeps_its_tokens(
    database: Database, tmp_path: Path
) -> None:
    auth = {"tokens": tokens(OLD)}
    path = daemon.write_config(tmp_path, database.dsn, listen="0.0.0.0:0", auth=auth)
    async with daemon.process(path) as process, aiohttp.ClientSession() as session:
        reloading = Reloading(process, session)
        content = yaml.safe_load(path.read_text())
        del content["auth"]
        path.write_text(yaml.safe_dump(content | {"listen": "127.0.0.1:0"}))

        status, text = await reloading.reload()

        assert status == 422
        assert "auth.tokens" in text
        assert await reloading.report("no token at all") == 401


async def test_the_shown_configuration_is_the_one_in_force_without_secrets(
    reloading: Reloading, database: Database
) -> None:
    reloading.write(NEW, ingest={"max_batch": 7}, thresholds={"default": [50]})
    assert (await reloading.reload())[0] == 204

    shown = await reloading.config()

    assert json.loads(shown)["auth"]["tokens"][0]["name"] == "ops"
    assert json.loads(shown)["thresholds"]["default"] == [50]
    assert json.loads(shown)["ingest"]["max_batch"] == 10_000  # takes a restart
    for secret in (ADMIN, OLD, NEW, database.cluster.password):
        assert secret not in shown


async def _is(found: Awaitable[object], wanted: object) -> bool:
    return await found == wanted
