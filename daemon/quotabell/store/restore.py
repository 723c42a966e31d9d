"""A backup is put into an empty database, all of it or nothing."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from quotabell.errors import QuotabellError, SchemaTooNew
from quotabell.store import contents, programs
from quotabell.store.backup import BadBackup, Progress, connected
from quotabell.store.contents import Sum
from quotabell.store.database import translated
from quotabell.store.migrate import LOCK, TABLE, schema_folder
from quotabell.store.programs import Programs, Target
from quotabell.store.queries import load

_SQL = load("contents")
_ROLES = "*_roles.sql"
_FIRST_BLOCK = re.compile(r"^do \$\$$.*?^end \$\$;$", re.MULTILINE | re.DOTALL)
_FROM_SERVER = re.compile(r"Dumped from database version: (\d+)")
_BY_PROGRAM = re.compile(r"Dumped by pg_dump version: (\d+)")
_ROWS_OF = re.compile(r"pg_restore: processing data for table \"(.*)\"")
_RIGHT = re.compile(r"(?:GRANT|REVOKE) .* (?:TO|FROM) (?P<role>\"(?:[^\"]|\"\")+\"|\S+)(?: .*)?;")
_POLICY = re.compile(r"CREATE POLICY .* TO (?P<role>\"(?:[^\"]|\"\")+\"|\w+)[ ;].*")
_NEVER = re.compile(
    r"CREATE SCHEMA public;|SET transaction_timeout = 0;|ALTER DEFAULT PRIVILEGES .*;"
)
_CHUNK = 1 << 18


class NotEmpty(QuotabellError):
    """The database is not empty."""


class Restored(NamedTuple):
    """What was done. ``left_out``: roles that this server does not have, without their rights."""

    left_out: list[str]


async def put_back(dsn: str, path: Path, progress: Progress) -> Restored:
    """Restore ``path`` into the empty database at ``dsn``, in one transaction.

    Raises BadBackup, NotEmpty, SchemaTooNew, ProgramMissing, ProgramFailed, Unavailable.
    """
    target = Target.of(dsn)
    with translated():
        async with connected(dsn) as connection, connection.transaction():
            # Whoever migrates waits, and finds it done.
            await connection.execute("set local idle_in_transaction_session_timeout = 0")
            await connection.execute("select pg_advisory_xact_lock($1)", LOCK)
            if there := await contents.what_is_there(connection):
                raise NotEmpty(
                    f"the database is not empty: it holds {', '.join(there)}; restore into a new "
                    "one (createdb, or another data_dir), before a daemon has started on it"
                )
            server = await contents.server_major(connection)
            roles = {row["rolname"] for row in await connection.fetch(_SQL["roles"])}
            tools = await _tools(path, target, server)
            await _check_schema(tools, target, path)
            left_out = await _replay(tools, target, path, roles, progress)
        async with connected(dsn) as connection:
            await connection.execute("analyze", timeout=3_600.0)
    return Restored(left_out)


async def verify(dsn: str, path: Path, sums: dict[str, Sum], progress: Progress) -> list[str]:
    """Restore into a scratch database beside the one at ``dsn``; in words, what differs.

    Raises like `put_back`, and BadBackup if no database may be made there.
    """
    name = f"quotabell_verify_{secrets.token_hex(4)}"
    async with _scratch(dsn, name) as scratch:
        await put_back(scratch, path, progress)
        with translated():
            async with connected(scratch) as connection, connection.transaction():
                return contents.differences(sums, await contents.sums(connection))


@contextlib.asynccontextmanager
async def _scratch(dsn: str, name: str) -> AsyncIterator[str]:
    with translated():
        async with connected(dsn) as connection:
            try:
                await connection.execute(f"create database {name} template template0")
            except asyncpg.InsufficientPrivilegeError:
                raise BadBackup(
                    "the backup is written but not verified: this role may not make a scratch "
                    "database; let a superuser run ALTER ROLE … CREATEDB, or restore it elsewhere"
                ) from None
            try:
                yield urlunsplit(urlsplit(dsn)._replace(path=f"/{quote(name)}"))
            finally:
                await connection.execute(f"drop database if exists {name} with (force)")


async def _tools(path: Path, target: Target, server: int) -> Programs:
    """The programs that understand the file; refuses a server older than the file's."""
    newest = programs.newest_programs()
    try:
        listed = await programs.output(newest.path("pg_restore"), ("--list", str(path)), target)
    except programs.ProgramFailed as error:
        raise BadBackup(f"{path} cannot be read: {error}") from None
    text = listed.decode(errors="replace")
    dumped, by = _FROM_SERVER.search(text), _BY_PROGRAM.search(text)
    if f"TABLE DATA public {TABLE} " not in text or dumped is None or by is None:
        raise BadBackup(f"{path} is no backup of Quotabell")
    if int(dumped[1]) > server:
        raise BadBackup(
            f"{path} is of Postgres {dumped[1]}, and this server is Postgres {server}: "
            "restore it into one that is not older"
        )
    return programs.usable_programs(int(by[1]))


async def _check_schema(tools: Programs, target: Target, path: Path) -> None:
    arguments = ("--data-only", f"--table={TABLE}", "--file=-", str(path))
    rows = (await programs.output(tools.path("pg_restore"), arguments, target)).decode()
    theirs = set(re.findall(r"^(\d{8,})$", rows, re.MULTILINE))
    ours = {p.name.partition("_")[0] for p in (schema_folder() / "migrations").glob("*.sql")}
    if theirs - ours:
        raise SchemaTooNew(
            f"the backup's schema is at {max(theirs)}, this Quotabell knows it up to {max(ours)}: "
            "restore it with the newer Quotabell that made it"
        )


async def _replay(
    tools: Programs, target: Target, path: Path, roles: set[str], progress: Progress
) -> list[str]:
    """Run the file by psql: our role, what tables are, their rows, what goes on top of them."""
    left_out: set[str] = set()
    before, after = [
        _fitting(await _section(tools, target, path, section), roles, left_out)
        for section in ("pre-data", "post-data")
    ]
    psql = (
        *("--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1"),
        "--set=VERBOSITY=terse",  # details quote rows, and rows hold secrets of subscriptions
    )
    async with programs.begun(
        tools.path("psql"),
        (*psql, "--file=-", f"--dbname={target.address}"),
        target,
        stdin=subprocess.PIPE,
    ) as process:
        said = asyncio.create_task(programs.heard(process, lambda line: False))
        assert process.stdin is not None
        try:
            process.stdin.write((_role_block() + "\n" + before).encode())
            await _rows(tools, target, path, process.stdin, progress)
            process.stdin.write(after.encode())
            await process.stdin.drain()
            process.stdin.close()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has said why it ended
        programs.check(process, await said, target)
    return sorted(left_out)


def _role_block() -> str:
    """What makes the role that rights in every backup are for: the first migration's words."""
    file = next((schema_folder() / "migrations").glob(_ROLES))
    found = _FIRST_BLOCK.search(file.read_text(encoding="utf-8"))
    assert found is not None
    return found[0]


async def _section(tools: Programs, target: Target, path: Path, section: str) -> str:
    arguments = (f"--section={section}", "--no-owner", "--file=-", str(path))
    return (await programs.output(tools.path("pg_restore"), arguments, target)).decode()


def _fitting(script: str, roles: set[str], left_out: set[str]) -> str:
    """The script without what this server cannot do; notes roles that it does not have."""
    kept = []
    for line in script.splitlines():
        found = _RIGHT.fullmatch(line) or _POLICY.fullmatch(line)
        role = found["role"].strip('"').replace('""', '"') if found else "PUBLIC"
        if _NEVER.fullmatch(line):
            continue
        if role not in roles and role not in ("PUBLIC", "quotabell_reader"):
            left_out.add(role)
            continue
        kept.append(line)
    return "\n".join(kept) + "\n"


async def _rows(
    tools: Programs,
    target: Target,
    path: Path,
    into: asyncio.StreamWriter,
    progress: Progress,
) -> None:
    done = 0

    def listen(line: str) -> bool:
        nonlocal done
        if found := _ROWS_OF.match(line):
            done += 1
            progress(found[1], done, 0)
        return not re.search("error|fatal|warning", line, re.IGNORECASE)

    arguments = ("--section=data", "--no-owner", "--verbose", "--file=-", str(path))
    async with programs.begun(
        tools.path("pg_restore"), arguments, target, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        said = asyncio.create_task(programs.heard(process, listen))
        # A setting of the head that older servers do not know stands before all rows.
        with contextlib.suppress(asyncio.IncompleteReadError):  # it has failed, and says why
            head = await process.stdout.readuntil(b"\nSET row_security")
            into.write(head.replace(b"\nSET transaction_timeout = 0;", b""))
        while chunk := await process.stdout.read(_CHUNK):
            into.write(chunk)
            await into.drain()
        programs.check(process, await said, target)
