"""No secret reaches the log, whatever happens to a daemon that logs everything."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import aiohttp

from tests.process.program import quotabell_run
from tests.support import daemon
from tests.support.certificates import Authority
from tests.support.postgres import OWNER, Database
from tests.support.tokens import supabase
from tests.support.waiting import eventually

ADMIN = "canary-of-the-admin-token"
INGEST = "canary-of-the-ingest-token"
LATER = "canary-of-the-token-after-a-reload"
WRONG = "canary-of-a-token-nobody-has"
SIGNING = "canary-of-the-secret-that-signs-tokens"
SIGNED = supabase("alice", secret=SIGNING)
EXPIRED = supabase("alice", secret=SIGNING, exp=1)
CANARY = b"canary"
UPDATE = "/api/token-monitor/update"


async def test_a_whole_life_at_debug_level_tells_no_secret(
    empty_database: Database, tmp_path: Path
) -> None:
    password = "canary-of-the-database-password"
    cluster = empty_database.cluster
    cluster.execute(f"ALTER ROLE {OWNER} PASSWORD '{password}'")
    try:
        url = empty_database.tcp_dsn.replace(cluster.password, password)
        tls = {"cert_file": tmp_path / "tls.crt", "key_file": tmp_path / "tls.key"}
        certificate = Authority().issue("localhost")
        certificate.write(*tls.values())
        sections = {
            "database": {"url": url},
            "log": {"level": "debug"},
            "tls": {key: str(file) for key, file in tls.items()},
        }
        path = daemon.write_config(tmp_path, "", auth=_auth(INGEST), **sections)
        async with daemon.process(path) as process:  # migrates
            await _live(process)
            await process.end(signal.SIGKILL)
            await process.start()
            await _lose_the_database(process, empty_database)
            daemon.write_config(tmp_path, "", auth=_auth(LATER), **sections)
            tls["key_file"].write_bytes(Authority().issue("localhost").pem())
            await _refuse_a_reload(process)
            certificate.write(*tls.values())
            await _reload(process)
            assert await process.end() == 0
    finally:
        cluster.execute(f"ALTER ROLE {OWNER} PASSWORD '{cluster.password}'")

    said = process.log_file.read_bytes()
    assert b"database lost" in said  # it did log what happened
    assert b"configuration reloaded" in said
    assert CANARY not in said
    assert b"tls: key_file" in said
    assert not [line for line in _inside(certificate.pem()) if line in said]
    for token in (SIGNED, EXPIRED):
        assert not [part for part in token.split(".")[1:] if part.encode() in said]


async def test_a_wrong_password_is_not_repeated(database: Database, tmp_path: Path) -> None:
    url = database.tcp_dsn.replace(database.cluster.password, "canary-of-a-wrong-password")
    done = await quotabell_run("serve", "--config", daemon.write_config(tmp_path, url))

    assert done.code != 0
    assert "password authentication failed" in done.err
    assert "canary" not in done.err + done.out


def _auth(ingest: str) -> dict[str, object]:
    return {"tokens": _tokens(ingest), "jwt": {"secret": SIGNING}}


def _tokens(ingest: str) -> list[dict[str, object]]:
    return [
        {"name": "ops", "token": ADMIN, "scopes": ["admin"]},
        {"name": "apps", "token": ingest, "scopes": ["ingest"]},
    ]


async def _live(process: daemon.DaemonProcess) -> None:
    """Requests of every fate, each with a token."""
    async with _session(process) as session:
        for token, body, status in (
            (INGEST, b'{"provider":"p","model":"m","tokensUsed":9,"tokenLimit":10}', 200),
            (INGEST, b'{"provider":"p","model":"m","tokensUsed":-1,"tokenLimit":10}', 422),
            (INGEST, b"not JSON", 400),
            (WRONG, b"{}", 401),
            (SIGNED, b'{"provider":"p","model":"m","tokensUsed":9,"tokenLimit":10}', 200),
            (EXPIRED, b"{}", 401),
        ):
            async with session.post(
                UPDATE, data=body, headers=_headers(token, "application/json")
            ) as response:
                assert response.status == status
        for token, where, status in (
            (ADMIN, "/metrics", 200),
            (ADMIN, "/-/config", 200),
            (INGEST, "/-/config", 403),
            (ADMIN, f"/{ADMIN}", 404),
        ):
            async with session.get(where, headers=_headers(token)) as response:
                assert response.status == status
                if token == ADMIN and status == 200:
                    assert CANARY not in await response.read()


async def _lose_the_database(process: daemon.DaemonProcess, database: Database) -> None:
    database.cluster.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS false")
    database.cluster.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database.name}'"
    )
    async with _session(process) as session:
        await eventually(lambda: _ready(session, 503))
        database.cluster.execute(f"ALTER DATABASE {database.name} ALLOW_CONNECTIONS true")
        await eventually(lambda: _ready(session, 200))


def _inside(pem: bytes) -> list[bytes]:
    return [line for line in pem.splitlines() if not line.startswith(b"-----")]


def _session(process: daemon.DaemonProcess) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(process.url, connector=aiohttp.TCPConnector(ssl=False))


async def _refuse_a_reload(process: daemon.DaemonProcess) -> None:
    async with _session(process) as session:
        async with session.post("/-/reload", headers=_headers(ADMIN)) as response:
            assert response.status == 422
            told = await response.read()
    assert b"PRIVATE" not in told
    assert CANARY not in told


async def _reload(process: daemon.DaemonProcess) -> None:
    os.kill(process.pid, signal.SIGHUP)
    async with _session(process) as session:

        async def taken() -> bool:
            async with session.post(UPDATE, json=daemon.SNAPSHOT, headers=_headers(LATER)) as r:
                return r.status == 200

        await eventually(taken)


async def _ready(session: aiohttp.ClientSession, status: int) -> bool:
    async with session.get("/-/ready") as response:
        return response.status == status


def _headers(token: str, kind: str | None = None) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {token}"}
    return headers | {"Content-Type": kind} if kind else headers
