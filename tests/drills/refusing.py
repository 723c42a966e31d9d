"""Postgres is there and takes no writes: read-only, a standby, a full disk.

Reports are refused with 503 and Retry-After, /metrics answers, and once writes are taken again
so are reports, without anybody's help; nothing that was acknowledged is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from tests.drills.ground import DurableCluster, Ground, ground
from tests.drills.mix import SECTIONS, Mix, mixing
from tests.drills.report import Report
from tests.support.postgres import Database, connected, identity
from tests.support.waiting import eventually

WAYS = ("read-only", "standby", "full", "full log")
REFUSALS = 30  # answers with 503 to wait for
BACK_WITHIN = 5.0  # seconds from the mend to an acknowledgement
_SMALL = {"full": 96, "full log": 128}  # MiB of the file system

Act = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Trouble:
    """How to make Postgres refuse writes, and to take them again."""

    database: Database
    harm: Act
    mend: Act


async def refusing(
    cluster: DurableCluster, folder: Path, *, way: str, times: int, seed: int, away: float = 1.0
) -> Report:
    """``times`` times: one of `WAYS` to refuse, for ``away`` seconds; then compare the books."""
    report = Report()
    async with trouble(cluster, way) as made:
        async with ground(made.database, folder, **SECTIONS) as field:
            async with mixing([field.daemon], seed) as mix:
                for _ in range(times):
                    await mix.more()
                    await _round(field, mix, made, away, report)
            report.faults += await mix.audit(field.database, field.daemon.config)
            await field.daemon.end()
    report.figures |= {f"times {way}": times, **mix.figures}
    return report


async def _round(field: Ground, mix: Mix, made: Trouble, away: float, report: Report) -> None:
    refused, lines = mix.outcomes["503"], _lines(field)
    began = time.monotonic()
    await made.harm()
    try:
        await eventually(lambda: mix.outcomes["503"] > refused + REFUSALS, timeout=60)
        await asyncio.sleep(away)
        await _look_around(field, report)
        said = (_lines(field) - lines) / (time.monotonic() - began)
    finally:
        await made.mend()
    begun, before = time.monotonic(), mix.climbers.answers
    await eventually(lambda: mix.climbers.answers > before, timeout=60, every=0.01)
    took = time.monotonic() - begun
    _most(report, "seconds until the first acknowledgement", took)
    if took > BACK_WITHIN:
        report.faults.append(f"back only {took:.1f} s after writes were taken again")
    _most(report, "lines of log a second", said)
    await mix.more(60.0)


def _most(report: Report, name: str, value: float) -> None:
    report.figures[name] = max(report.figures.get(name, 0.0), round(value, 2))


def _lines(field: Ground) -> int:
    return field.daemon.log_file.read_bytes().count(b"\n")


async def _look_around(field: Ground, report: Report) -> None:
    wanted = {"/-/healthy": (200,), "/-/ready": (200, 503), "/metrics": (200,)}
    async with aiohttp.ClientSession(field.url()) as session:
        for path, statuses in wanted.items():
            async with session.get(path) as answer:
                text = await answer.text()
                if answer.status not in statuses:
                    report.faults.append(f"{path} answered {answer.status}")
        up = re.search(r"^quotabell_database_up (\S+)$", text, re.MULTILINE)
        report.figures["quotabell_database_up"] = up[1] if up else None


@contextlib.asynccontextmanager
async def trouble(cluster: DurableCluster, way: str) -> AsyncIterator[Trouble]:
    """A database of its own and what befalls it."""
    if way == "read-only":
        database = cluster.create_database()
        yield Trouble(database, lambda: _set(database, "on"), lambda: _set(database, "off"))
    elif way == "standby":
        yield Trouble(
            cluster.create_database(), lambda: _demote(cluster), lambda: _promote(cluster)
        )
    elif way == "full":
        with small_folder(cluster, _SMALL[way]) as small:
            location = small / "space"
            _make(location)
            await asyncio.to_thread(
                cluster.execute, f"create tablespace small location '{location}'"
            )
            database = cluster.create_database()
            move = f"alter database {database.name} set tablespace small"
            await asyncio.to_thread(cluster.execute, move)
            yield Trouble(database, lambda: _fill(small), lambda: _empty(cluster, small))
            await asyncio.to_thread(cluster.drop_database, database.name)
            await asyncio.to_thread(cluster.execute, "drop tablespace small")
    else:
        database = cluster.create_database()
        with small_folder(cluster, _SMALL[way]) as small:
            await _move_log(cluster, small / "pg_wal")
            yield Trouble(
                database,
                lambda: _fill_log(database, small),
                lambda: _empty(cluster, small),
            )
            await cluster.crash()
            _move(small / "pg_wal", cluster.data / "pg_wal")
            await cluster.restart()


async def _set(database: Database, value: str) -> None:
    """For all sessions of the server but the superuser's own, which say otherwise."""
    async with connected(
        database.admin_dsn + "&options=-cdefault_transaction_read_only%3Doff"
    ) as c:
        await c.execute(f"alter system set default_transaction_read_only = {value}")
        await c.execute("select pg_reload_conf()")


async def _demote(cluster: DurableCluster) -> None:
    """Start it again as a standby that never hears of a primary."""
    await cluster.crash()
    (cluster.data / "standby.signal").touch()
    await cluster.restart()


async def _promote(cluster: DurableCluster) -> None:
    await asyncio.to_thread(cluster.execute, "select pg_promote()")


@contextlib.contextmanager
def small_folder(cluster: DurableCluster, size: int) -> Iterator[Path]:
    """A file system of ``size`` MiB for the server; needs root."""
    if os.geteuid() != 0:
        raise PermissionError("only root may mount a small file system")
    folder = cluster.root / "small"
    _make(folder)
    options = f"size={size}m,mode=700,uid={identity()['user']}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    subprocess.run(mount, check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _make(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    os.chown(folder, identity()["user"], identity()["group"])


async def _fill(small: Path) -> None:
    """Leave nothing free."""
    await asyncio.to_thread(_write_until_full, small / "filler")


def _write_until_full(file: Path) -> None:
    with contextlib.suppress(OSError), file.open("ab", buffering=0) as sink:
        while True:
            sink.write(bytes(4096))


async def _fill_log(database: Database, small: Path) -> None:
    """Fill it, and ask for new segments of the log until there is none."""
    await _fill(small)
    with contextlib.suppress(Exception):  # the server falls
        async with connected(database.admin_dsn) as connection:
            for _ in range(64):
                await connection.execute("create table if not exists public.switched ()")
                await connection.execute("drop table public.switched")
                await connection.execute("select pg_switch_wal()")


async def _empty(cluster: DurableCluster, small: Path) -> None:
    """What an administrator would do: make room, and start the server if it has ended."""
    (small / "filler").unlink()
    await cluster.restart_if_ended()


async def _move_log(cluster: DurableCluster, to: Path) -> None:
    await cluster.crash()
    _move(cluster.data / "pg_wal", to)
    (cluster.data / "pg_wal").symlink_to(to)
    await cluster.restart()


def _move(source: Path, to: Path) -> None:
    if to.is_symlink():
        to.unlink()
    subprocess.run(["mv", str(source), str(to)], check=True)
