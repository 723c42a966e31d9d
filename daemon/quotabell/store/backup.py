"""A backup: one file of pg_dump, as of one moment, beside daemons that go on."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import asyncpg

from quotabell.errors import QuotabellError
from quotabell.store import contents, programs
from quotabell.store.contents import Sum
from quotabell.store.database import CONNECT_TIMEOUT, translated
from quotabell.store.migrate import TABLE
from quotabell.store.programs import Programs, Target
from quotabell.store.queries import load

_SQL = load("contents")
_SCHEMAS = ("--schema=public", "--schema=quotabell_parts")
_DUMPING = re.compile(r"pg_dump: dumping contents of table \"(.*)\"")
_LOCK_WAIT = "30s"

Progress = Callable[[str, int, int], None]
"""Is told of the table under way, of how many are done, and of how many there are."""


class FileInTheWay(QuotabellError):
    """The file is there already, or cannot be written."""


class BadBackup(QuotabellError):
    """This is no backup of Quotabell."""


class Backup(NamedTuple):
    """What a finished backup holds. ``sums``: only if they were asked for."""

    server: int
    schema: str
    size: int  # bytes
    sums: dict[str, Sum]


async def back_up(dsn: str, path: Path, progress: Progress, *, summed: bool = False) -> Backup:
    """Write a backup to ``path``, which appears when it is complete, for its owner only.

    Raises FileInTheWay, ProgramMissing, ProgramFailed, NotQuotabell, Unavailable.
    """
    target = Target.of(dsn)
    with _draft(path) as (file, draft):
        with translated():
            async with (
                connected(dsn) as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                await connection.execute("set local idle_in_transaction_session_timeout = 0")
                schema = await contents.schema_version(connection)
                major = await contents.server_major(connection)
                tools = programs.usable_programs(major)
                snapshot = await connection.fetchval("select pg_export_snapshot()")
                parts = await connection.fetchval(_SQL["parts"])
                await _dump(tools, target, snapshot, file, parts, progress)
                sums = await contents.sums(connection) if summed else {}
        file.flush()
        os.fsync(file.fileno())
        await _listed(tools, target, draft)
        size = draft.stat().st_size
    return Backup(major, schema, size, sums)


async def _dump(
    tools: Programs,
    target: Target,
    snapshot: str,
    file: IO[bytes],
    parts: int,
    progress: Progress,
) -> None:
    done = 0

    def listen(line: str) -> bool:
        nonlocal done
        if found := _DUMPING.match(line):
            done += 1
            progress(found[1], done, parts)
        return not re.search("error|fatal|warning|detail|hint", line, re.IGNORECASE)

    arguments = (
        *("--format=custom", "--verbose", "--no-comments", f"--snapshot={snapshot}"),
        *(f"--lock-wait-timeout={_LOCK_WAIT}", *_SCHEMAS, f"--dbname={target.address}"),
    )
    async with programs.begun(tools.path("pg_dump"), arguments, target, stdout=file) as process:
        said = await programs.heard(process, listen)
        programs.check(process, said, target)


async def _listed(tools: Programs, target: Target, path: Path) -> None:
    """That pg_restore can read the file, and finds in it what must be there."""
    listed = await programs.output(tools.path("pg_restore"), ("--list", str(path)), target)
    if f"TABLE DATA public {TABLE} " not in listed.decode(errors="replace"):
        raise BadBackup(f"{path}: the tables are not in the file that pg_dump has written")


@contextlib.contextmanager
def _draft(path: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A file beside ``path`` that takes its name at the end, and is removed after an error."""
    if path.exists() or path.is_symlink():
        raise FileInTheWay(f"{path} is there already; name another file, or move it away")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FileInTheWay(f"{path} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            yield file, draft
        try:
            os.link(draft, path)  # unlike a rename, replaces nothing
        except FileExistsError:
            raise FileInTheWay(f"{path} has appeared meanwhile; it was left alone") from None
        except OSError:  # a file system without links
            draft.rename(path)
        _sync(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    """One connection."""
    connection = await asyncpg.connect(
        dsn,
        timeout=CONNECT_TIMEOUT,
        statement_cache_size=0,
        server_settings={"application_name": "quotabell"},
    )
    try:
        yield connection
    finally:
        await connection.close(timeout=CONNECT_TIMEOUT)
