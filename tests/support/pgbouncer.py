"""A real PgBouncer for tests: transactions share a few connections, and no session outlives one."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit

import asyncpg

from tests.support.load import steady_port
from tests.support.postgres import OWNER, identity
from tests.support.prometheus import program
from tests.support.unprivileged import reachable_directory
from tests.support.waiting import eventually

CONNECTIONS = 3  # to the server, fewer than the daemon has to the bouncer


@contextlib.asynccontextmanager
async def pgbouncer(dsn: str, connections: int = CONNECTIONS) -> AsyncIterator[str]:
    """A DSN that leads through it to the database of ``dsn``, a socket's.

    ``connections``: to the server, at most.
    """
    where = urlsplit(dsn)
    query = parse_qs(where.query)
    name, listen = where.path.removeprefix("/"), steady_port()
    with reachable_directory() as folder:
        config = folder / "pgbouncer.ini"
        config.write_text(
            f"[databases]\n{name} = host={query['host'][0]} port={query['port'][0]} user={OWNER}\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {listen}\nunix_socket_dir =\n"
            f"auth_type = any\npool_mode = transaction\ndefault_pool_size = {connections}\n"
            "server_reset_query_always = 1\n"  # what a session kept is gone at once
        )
        log = folder / "log"
        with log.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(
                program(shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"),
                str(config),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                **identity(),
            )
        through = f"postgresql://{OWNER}@127.0.0.1:{listen}/{name}"
        try:
            await eventually(lambda: process.returncode or _answers(through), timeout=20)
            assert process.returncode is None, log.read_text()
            yield through
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
            await process.wait()


async def _answers(dsn: str) -> bool:
    try:
        connection = await asyncpg.connect(dsn, timeout=2, statement_cache_size=0)
    except (OSError, asyncpg.PostgresError, TimeoutError):
        return False
    await connection.close()
    return True
