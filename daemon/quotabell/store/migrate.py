"""Bringing the schema up to date: plain SQL files, applied by one process at a time."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TypeAlias

import asyncpg

from quotabell.errors import MigrationFailed, SchemaTooNew, Unavailable
from quotabell.store import dbmate

TABLE = "quotabell_migrations"  # in the schema public
LOCK = 0x71756F7461626C6C  # the advisory lock of whoever migrates: "quotabll"
LOCK_WAIT = 60  # seconds
RUN_LIMIT = 900.0  # seconds; taking over an older service's tables rewrites them
_CONNECT_TIMEOUT = 10.0
_FILE = re.compile(r"(\d+)_.*\.sql")
_AWAY = ("08", "53", "57")  # SQLSTATE classes: connection, resources, operator intervention

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@dataclass(frozen=True, slots=True)
class MigrateResult:
    """The files that were applied, in order; none if the schema was up to date."""

    applied: list[str]


def schema_folder() -> Path:
    """Where the SQL is: inside an installed package, else at the top of the checkout."""
    packaged = Path(str(files("quotabell"))) / "schema"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "schema"


async def migrate(dsn: str, migrations: Path | None = None) -> MigrateResult:
    """Apply what is missing of the ``migrations`` folder (default: Quotabell's own).

    Safe to call from any number of processes at once. Raises SchemaTooNew if the database
    knows a migration that the folder does not hold, MigrationFailed if one fails or the
    address cannot be used, Unavailable if the database cannot be reached.
    """
    folder = migrations or schema_folder() / "migrations"
    ours = _files(folder)
    with _translated():
        async with _connected(dsn) as connection:
            if not _missing(ours, await _recorded(connection)):
                return MigrateResult([])
            async with _locked(connection):
                missing = _missing(ours, await _recorded(connection))
                if missing:
                    await dbmate.apply(dsn, folder, f"public.{TABLE}", RUN_LIMIT)
                left = _missing(ours, await _recorded(connection))
    if left:
        raise MigrationFailed(f"dbmate has not applied {', '.join(left)}")
    return MigrateResult(missing)


def _files(folder: Path) -> dict[str, str]:
    """The files' names by version."""
    found = {m[1]: m[0] for m in map(_FILE.fullmatch, _names(folder)) if m}
    if not found:
        raise MigrationFailed(f"there are no migrations in {folder}")
    return found


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def _missing(ours: dict[str, str], recorded: set[str]) -> list[str]:
    unknown = recorded - ours.keys()
    if unknown:
        raise SchemaTooNew(
            f"the database's schema is at {max(recorded)}, this Quotabell knows it up to "
            f"{max(ours)}: start the newer Quotabell that migrated it"
        )
    return [name for version, name in ours.items() if version not in recorded]


async def _recorded(connection: Connection) -> set[str]:
    """The versions that the database has; leaves no lock on their table."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        # Not to_regclass: that may answer from a cache that does not yet know what another
        # session has created since.
        exists = "select from pg_tables where schemaname = 'public' and tablename = $1"
        if await connection.fetchrow(exists, TABLE) is None:
            return set()
        rows = await connection.fetch(f"select version from public.{TABLE}")
        return {row["version"] for row in rows}
    finally:
        # Inside the lock's transaction this is a savepoint, and going back to it gives up the
        # table, which the migrations themselves may want to alter.
        await transaction.rollback()


@contextlib.asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(dsn, timeout=_CONNECT_TIMEOUT, statement_cache_size=0)
    try:
        yield connection
    finally:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await connection.close(timeout=2.0)  # cuts it off if that takes longer


@contextlib.asynccontextmanager
async def _locked(connection: Connection) -> AsyncIterator[None]:
    """Hold the lock, by a transaction: a session's would be lost behind a pooler."""
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(
            f"set local lock_timeout = '{LOCK_WAIT}s'; set local statement_timeout = 0;"
            "set local idle_in_transaction_session_timeout = 0"
        )
        await connection.execute("select pg_advisory_xact_lock($1)", LOCK)
        yield


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except asyncpg.LockNotAvailableError as error:
        raise MigrationFailed(
            f"another process has been migrating this database for {LOCK_WAIT} s"
        ) from error
    except asyncpg.PostgresError as error:
        kind = Unavailable if (error.sqlstate or "").startswith(_AWAY) else MigrationFailed
        raise kind(f"database: {error}") from error
    except ValueError:
        # The driver's words may quote a piece of the password.
        raise MigrationFailed(
            "the address of the database cannot be understood; characters like / ? # @ in a "
            "password have to be percent-encoded"
        ) from None
    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        raise Unavailable(f"database: {error or type(error).__name__}") from error
