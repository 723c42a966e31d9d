"""The database as commands reach it, whether the daemon runs or not."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from quotabell.errors import DataDirectoryInUse
from quotabell.log import Logger
from quotabell.store import embedded_socket as socket
from quotabell.store.embedded import EmbeddedPostgres
from quotabell.store.instance import hold


@contextlib.asynccontextmanager
async def reached(url: str, data_dir: Path, log: Logger) -> AsyncIterator[str]:
    """The address of the server at ``url``; if that is empty, of the embedded one.

    The embedded one is started for as long as this lasts, unless a daemon runs it already.
    """
    if url:
        yield url
        return
    try:
        instance = hold(data_dir)
    except DataDirectoryInUse:
        yield socket.dsn(socket.socket_directory(data_dir))
        return
    server = EmbeddedPostgres(data_dir, log)
    try:
        await server.start()
        yield server.dsn
    finally:
        await server.stop()
        instance.close()
