"""What each command says, and the exit code by which a supervisor knows what to do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import asyncpg
import pytest
import yaml

from quotabell import app, log
from quotabell.errors import Unavailable
from quotabell.store.migrate import TABLE
from tests.process.program import quotabell_begun, quotabell_run
from tests.support import daemon
from tests.support.load import steady_port
from tests.support.postgres import Database

EX_UNAVAILABLE, EX_CONFIG = 69, 78
NEWER = "29991231000000"


def _nobody() -> str:
    """The address of a Postgres that is not there."""
    return f"postgresql://quotabell:canary-password@127.0.0.1:{steady_port()}/quotabell"


async def test_check_config_tells_every_problem_at_once(tmp_path: Path) -> None:
    path = tmp_path / "quotabell.yaml"
    path.write_text(
        "listen: 0.0.0.0:3001\n"
        "databse: {}\n"
        "database: {pool_size: many}\n"
        "auth:\n"
        "  tokens:\n"
        "    - {name: apps, token: '${NO_SUCH_VARIABLE}', scopes: [ingest]}\n"
        "    - {name: ops, token: a-token-of-some-length, scopes: [everything]}\n"
        "thresholds: {default: [0, 2000]}\n"
    )

    done = await quotabell_run("check-config", "--config", path)

    assert done.code == EX_CONFIG
    for place in (
        *("databse", "database.pool_size", "auth.tokens[0].token", "NO_SUCH_VARIABLE"),
        *("auth.tokens[1].scopes", "thresholds.default"),
    ):
        assert place in done.err
    assert "a-token-of-some-length" not in done.err + done.out
    assert "Traceback" not in done.err
    assert (await quotabell_run("serve", "--config", path)).err == done.err


async def test_check_config_shows_what_is_in_force_without_secrets(tmp_path: Path) -> None:
    tokens = [{"name": "apps", "token": "canary-token-of-apps", "scopes": ["ingest"]}]
    path = daemon.write_config(tmp_path, _nobody(), auth={"tokens": tokens})

    done = await quotabell_run("check-config", "--config", path)

    assert done.code == 0
    shown = yaml.safe_load(done.out)
    assert shown["auth"]["tokens"][0]["name"] == "apps"
    assert shown["ingest"]["max_batch"] == 10_000  # a default
    assert "canary" not in done.out + done.err


async def test_migrate_brings_a_database_up_to_date(
    empty_database: Database, tmp_path: Path
) -> None:
    path = daemon.write_config(tmp_path, empty_database.dsn)

    first = await quotabell_run("migrate", "--config", path)
    again = await quotabell_run("migrate", "--config", path)

    assert (first.code, again.code) == (0, 0), first.err + again.err
    connection = await asyncpg.connect(empty_database.dsn)
    assert await connection.fetchval("select count(*) from token_usage") == 0
    await connection.close()


async def test_an_older_daemon_does_not_touch_a_newer_schema(
    database: Database, tmp_path: Path
) -> None:
    connection = await asyncpg.connect(database.dsn)
    ours = await connection.fetchval(f"select max(version) from {TABLE}")
    await connection.execute(f"insert into {TABLE} (version) values ('{NEWER}')")
    await connection.close()
    path = daemon.write_config(tmp_path, database.dsn)

    for command in ("serve", "migrate"):
        done = await quotabell_run(command, "--config", path)

        assert done.code == EX_CONFIG
        assert NEWER in done.err
        assert ours in done.err
        assert "Traceback" not in done.err


async def test_migrate_without_its_database_is_worth_another_try(tmp_path: Path) -> None:
    done = await quotabell_run("migrate", "--config", daemon.write_config(tmp_path, _nobody()))

    assert done.code == EX_UNAVAILABLE
    assert "does database.url or DATABASE_URL lead to it?" in done.err
    assert "canary-password" not in done.err
    assert "Traceback" not in done.err


async def test_a_terminal_without_the_letters_of_a_name_shows_it_all_the_same(
    database: Database, tmp_path: Path
) -> None:
    async with daemon.running(daemon.configure(tmp_path, database.dsn)) as running:
        body = daemon.SNAPSHOT | {"userId": "日本"}
        async with aiohttp.ClientSession(running.url) as session:
            async with session.post("/api/token-monitor/update", json=body) as answer:
                assert answer.status == 200
        ascii_only = {"PYTHONIOENCODING": "ascii"}
        done = await quotabell_run("status", "--url", running.url, environment=ascii_only)

    assert (done.code, done.err) == (0, "")
    assert "grok / grok-3, \\u65e5\\u672c  ##" in done.out
    assert done.out.isascii()


async def test_serve_waits_for_its_database_only_so_long(tmp_path: Path) -> None:
    config = daemon.configure(tmp_path, _nobody())
    begun = time.monotonic()

    with pytest.raises(Unavailable):
        await app.serve(config, log.configure("error"), asyncio.Event(), patience=1.0)

    assert 1.0 <= time.monotonic() - begun < 10.0


async def test_serve_starts_once_its_database_does(database: Database, tmp_path: Path) -> None:
    port = steady_port()
    url = database.tcp_dsn.replace(f":{database.cluster.port}/", f":{port}/")
    path = daemon.write_config(tmp_path, url)
    async with quotabell_begun("serve", "--greet", "--config", path) as process:
        await _said(process, "waiting for the database")

        async with _forward(port, database.cluster.port):
            await _said(process, "quotabell is ready")
            process.terminate()
            greeting, _ = await process.communicate()

    assert process.returncode == 0
    assert "Quotabell listens at http://127.0.0.1:" in greeting.decode()


async def test_a_daemon_that_waits_for_its_database_can_be_stopped(tmp_path: Path) -> None:
    path = daemon.write_config(tmp_path, _nobody())
    async with quotabell_begun("serve", "--config", path) as process:
        await _said(process, "waiting for the database")

        begun = time.monotonic()
        process.terminate()
        _, said = await asyncio.wait_for(process.communicate(), 20)

    assert process.returncode == 0, said
    assert time.monotonic() - begun < 5
    assert "Traceback" not in said.decode()


async def test_a_port_in_use_is_named(database: Database, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"

        done = await quotabell_run(
            "serve", "--config", daemon.write_config(tmp_path, database.dsn, listen=address)
        )

    assert done.code == 1
    assert done.err.strip() == f"quotabell: cannot listen on {address}: Address already in use"


async def test_an_empty_host_listens_everywhere(database: Database, tmp_path: Path) -> None:
    tokens = [{"name": "apps", "token": "some-token-of-the-test", "scopes": ["read"]}]
    path = daemon.write_config(
        tmp_path, database.dsn, listen=f":{steady_port()}", auth={"tokens": tokens}
    )
    async with daemon.process(path) as process, aiohttp.ClientSession() as session:
        port = process.url.rpartition(":")[2]
        for host in ("127.0.0.1", "localhost", *(["[::1]"] if socket.has_dualstack_ipv6() else [])):
            async with session.get(f"http://{host}:{port}/-/ready") as response:
                assert response.status == 200


async def _said(process: asyncio.subprocess.Process, words: str) -> None:
    """Wait for a line of its log."""
    assert process.stderr is not None
    async with asyncio.timeout(20):
        async for line in process.stderr:
            if words in line.decode():
                return
    raise AssertionError(f"ended without {words!r}")


@contextlib.asynccontextmanager
async def _forward(port: int, target: int) -> AsyncIterator[None]:
    """Pass connections to ``port`` on to ``target``."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield
    finally:
        server.close()
