"""A daemon with the Postgres that it brings along: start, kill, adoption, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quotabell.store.embedded_process import read_pid_file
from tests.process.program import quotabell_begun, quotabell_run
from tests.support import daemon
from tests.support.load import Connection, snapshot
from tests.support.unprivileged import reachable_directory
from tests.support.waiting import eventually

FIRST_START_WITHIN = 20.0  # seconds; the budget of 5 holds on a machine that does nothing else
LATER_START_WITHIN = 10.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that the server's user can reach; a server left in it is ended."""
    with reachable_directory() as made:
        yield made
        for pid_file in made.glob("*/postgres/postmaster.pid"):
            record = read_pid_file(pid_file.parent)
            if record is not None and _runs(record.pid):
                os.kill(record.pid, signal.SIGQUIT)


async def test_a_daemon_brings_its_own_postgres_and_takes_it_along(folder: Path) -> None:
    config = daemon.write_config(folder, "")
    pgdata = folder / "data" / "postgres"
    begun = time.monotonic()
    async with daemon.process(config) as process:
        first_start = time.monotonic() - begun
        print(f"first start: ready after {first_start:.2f} s")
        assert first_start < FIRST_START_WITHIN
        await _report(process.url, 1)
        server = _server(pgdata)

        await process.end(signal.SIGKILL)
        assert _runs(server)  # a killed daemon cannot stop it
        begun = time.monotonic()
        await process.start()
        print(f"start beside a running server: ready after {time.monotonic() - begun:.2f} s")
        assert time.monotonic() - begun < LATER_START_WITHIN
        assert _server(pgdata) == server  # so the next one takes it over
        assert await _report(process.url, 2) == {"tokensUsed": 2, "applied": True}

        assert await process.end() == 0
        assert _commands_with(folder) == []
        assert not (pgdata / "postmaster.pid").exists()


@pytest.fixture(scope="module")
def migrated() -> Iterator[Path]:
    """A data directory that only `quotabell migrate` has used."""
    with reachable_directory() as made:
        config = daemon.write_config(made, "")
        done = asyncio.run(quotabell_run("migrate", "--config", config))
        assert (done.code, done.out) == (0, "the schema is up to date\n"), done.err
        assert _commands_with(made) == []
        yield made / "data"


@pytest.fixture
def prepared(folder: Path, migrated: Path) -> Path:
    """The configuration of a daemon with a migrated database."""
    subprocess.run(["cp", "--archive", str(migrated), str(folder / "data")], check=True)
    return daemon.write_config(folder, "")


async def test_migrate_makes_the_database_that_serve_then_uses(prepared: Path) -> None:
    again = await quotabell_run("migrate", "--config", prepared)

    assert again.code == 0
    async with daemon.process(prepared) as process:
        assert await _report(process.url, 1) == {"tokensUsed": 1, "applied": True}


async def test_a_second_daemon_is_refused_by_name(prepared: Path) -> None:
    async with daemon.process(prepared) as process:
        second = await quotabell_run("serve", "--config", prepared)

        assert second.code == 1
        assert str(prepared.parent / "data") in second.err
        assert f"pid {process.pid}" in second.err
        assert "Traceback" not in second.err
        assert await _report(process.url, 1) == {"tokensUsed": 1, "applied": True}


@pytest.mark.parametrize("begun", ["postgres/PG_VERSION", "postgres.log"])
async def test_a_stop_during_the_first_start_leaves_nothing_running(
    folder: Path, begun: str
) -> None:
    config = daemon.write_config(folder, "")
    async with quotabell_begun("serve", "--config", config) as process:
        await eventually((folder / "data" / begun).exists)
        asked = time.monotonic()
        process.terminate()
        _, said = await asyncio.wait_for(process.communicate(), 20)

    assert process.returncode == 0, said
    assert time.monotonic() - asked < 10
    assert "ready" not in said.decode()
    assert _commands_with(folder) == []
    async with daemon.process(config) as another:
        assert await _report(another.url, 1) == {"tokensUsed": 1, "applied": True}


async def _report(url: str, used: int) -> dict[str, object]:
    connection = Connection()
    answer = await connection.post(f"{url}/api/token-monitor/update", snapshot("model", used))
    connection.abort()
    assert answer.status == 200, answer
    return {key: answer.json()["data"][key] for key in ("tokensUsed", "applied")}


def _server(pgdata: Path) -> int:
    """The process id of the server."""
    record = read_pid_file(pgdata)
    assert record is not None
    return record.pid


def _commands_with(folder: Path) -> list[str]:
    """The command lines that name something in ``folder``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if str(folder) in words:
                found.append(words)
    return found


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
