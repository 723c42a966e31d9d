"""What every drill stands on: a durable Postgres, a daemon beside it, and the books."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from tests.drills.crowd import Climber
from tests.support import daemon
from tests.support.load import steady_port
from tests.support.postgres import DEBIAN_15, Cluster, Database, embedded_18

# The final rows alone would hide a loss: whoever reports goes on, and larger numbers follow.
_KEEP_HISTORY = """
create table public.history (id bigserial primary key, model text, tokens_used bigint);
create function public.keep_history() returns trigger
language plpgsql security definer set search_path = pg_catalog as $$
begin
    if new.provider = 'load' and (tg_op = 'INSERT' or new.tokens_used <> old.tokens_used) then
        insert into public.history (model, tokens_used) values (new.model, new.tokens_used);
    end if;
    return null;
end $$;
create trigger keep_history after insert or update on public.token_usage
    for each row execute function public.keep_history();
"""


class DurableCluster(Cluster):
    """A Postgres that survives having its plug pulled: fsync and the rest are on."""

    async def crash(self) -> None:
        """``pg_ctl stop -m immediate``: no checkpoint, recovery at the next start."""
        stop = ("pg_ctl", "stop", "--pgdata", str(self.data), "--mode", "immediate", "--wait")
        await asyncio.to_thread(self.run, *stop)
        assert self._process is not None
        await asyncio.to_thread(self._process.wait, 10)

    async def freeze(self) -> None:
        """Let no process of the server go on; its connections stay open and silent."""
        for pid in self._processes(signal.SIGSTOP):
            os.kill(pid, signal.SIGSTOP)

    async def thaw(self) -> None:
        """Let all go on."""
        for pid in self._processes(None):
            with contextlib.suppress(ProcessLookupError):  # whose client has gone ends by then
                os.kill(pid, signal.SIGCONT)

    def _processes(self, first: signal.Signals | None) -> list[int]:
        """The server and its children; ``first`` is sent to it so that no more can appear."""
        assert self._process is not None
        parent = self._process.pid
        if first is not None:
            os.kill(parent, first)
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [parent, *map(int, children)]

    async def restart_if_ended(self) -> None:
        """Start it if it has ended by itself."""
        assert self._process is not None
        if self._process.poll() is not None:
            await self.restart()

    async def restart(self) -> None:
        """Start it after a crash; returns once it takes connections."""
        self._process = self._launch()
        await asyncio.to_thread(self._wait_ready, 60.0)


@dataclass(frozen=True, slots=True)
class Ground:
    """A database and a daemon process on it."""

    database: Database
    daemon: daemon.DaemonProcess

    def url(self) -> str:
        """Of the daemon."""
        return self.daemon.url


@contextlib.asynccontextmanager
async def ground(
    database: Database, folder: Path, dsn: str = "", **sections: Any
) -> AsyncIterator[Ground]:
    """A daemon on a migrated or empty database, that keeps its history from now on.

    ``dsn``: its way to the database, if not the shortest.
    """
    listen = f"127.0.0.1:{steady_port()}"
    config = daemon.write_config(folder, dsn or database.dsn, listen=listen, **sections)
    async with daemon.process(config) as process:
        await keep_history(database)
        yield Ground(database, process)


async def keep_history(database: Database) -> None:
    """Let a migrated database remember every number that it stored, for `audit`."""
    await asyncio.to_thread(database.cluster.execute, _KEEP_HISTORY, database.name)


@contextlib.contextmanager
def durable_cluster(**settings: str) -> Iterator[DurableCluster]:
    """A running one, with further settings of the server; removed at the end."""
    durable = {"fsync": "on", **settings}
    cluster = DurableCluster("drill", embedded_18() or DEBIAN_15, settings=durable)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="qb-drill-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def audit(database: Database, climbers: list[Climber]) -> list[str]:
    """What is wrong with the books, given what was sent and acknowledged."""
    history: dict[str, list[int]] = {climber.model: [] for climber in climbers}
    for row in await rows(database, "select model, tokens_used from public.history order by id"):
        if row["model"] in history:  # others may report as well
            history[row["model"]].append(row["tokens_used"])
    faults = []
    for climber in climbers:
        written = history[climber.model]
        if lost := climber.acknowledged - set(written):
            faults.append(f"{climber.model}: {sorted(lost)[:5]} acknowledged, but not stored")
        if unknown := set(written) - set(range(1, climber.sent + 1)):
            faults.append(f"{climber.model}: {sorted(unknown)[:5]} stored, but never sent")
        faults += [
            f"{climber.model}: {later} stored after {earlier}"
            for earlier, later in itertools.pairwise(written)
            if later <= earlier
        ]
    return faults


async def stored(database: Database) -> dict[str, int]:
    """The stored number of each model."""
    found = await rows(database, "select model, tokens_used from public.token_usage")
    return {row["model"]: row["tokens_used"] for row in found}


async def rows(database: Database, sql: str) -> list[asyncpg.Record]:
    """What a query gives the superuser."""
    connection = await asyncpg.connect(database.admin_dsn, statement_cache_size=0)
    try:
        return await connection.fetch(sql)
    finally:
        await connection.close()
