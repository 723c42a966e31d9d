"""Applying the migrations: once, by one process, up and down, and what schema.sql holds."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from quotabell.errors import MigrationFailed, SchemaTooNew, Unavailable
from quotabell.store import dbmate, migrate
from tests.support.catalog import catalog
from tests.support.postgres import Cluster, Database, connected, embedded_18
from tests.support.schema_dump import SCHEMA, dump
from tests.support.waiting import eventually

MIGRATIONS = migrate.schema_folder() / "migrations"
NAMES = sorted(path.name for path in MIGRATIONS.iterdir())
A_ROW = "insert into token_thresholds (threshold_percentage) values (80)"
ROWS = "select count(*) from token_thresholds"
TOLD_TO_DROP = "&options=-cquotabell.drop_rows%3Dyes"


def folder_with(tmp_path: Path, **files: str) -> Path:
    """A folder of migrations; the names begin with an underscore."""
    for name, up in files.items():
        text = f"-- migrate:up\n{up}\n-- migrate:down\n"
        (tmp_path / f"{name.removeprefix('_')}.sql").write_text(text, encoding="utf-8")
    return tmp_path


def children() -> list[Path]:
    """The folders in /proc of the processes that this one has started."""
    here = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    return [Path("/proc", pid) for pid in here.read_text().split()]


async def roll_back(dsn: str, times: int) -> str:
    """Run the down parts as a person would; the last error, if any."""
    output = b""
    for _ in range(times):
        process = await asyncio.create_subprocess_exec(
            *(dbmate._program(), "--env", "URL", "--no-dump-schema"),
            *("--migrations-dir", str(MIGRATIONS)),
            *("--migrations-table", "quotabell_migrations", "rollback"),
            env={"URL": dbmate.to_dbmate_url(dsn)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        if process.returncode:
            return output.decode()
    return ""


def test_migration_names_sort_by_time_and_say_what_they_make() -> None:
    assert all(re.fullmatch(r"20\d{12}_[a-z]+(_[a-z]+)*\.sql", name) for name in NAMES)
    assert len({name.partition("_")[0] for name in NAMES}) == len(NAMES)


async def test_an_empty_database_is_migrated_once(any_empty_dsn: str) -> None:
    assert (await migrate.migrate(any_empty_dsn)).applied == NAMES
    assert (await migrate.migrate(any_empty_dsn)).applied == []


async def test_an_up_to_date_database_does_not_start_dbmate(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dbmate, "_program", lambda: "/nonexistent")
    assert (await migrate.migrate(dsn)).applied == []


async def test_many_daemons_that_start_at_once_migrate_once(empty_dsn: str) -> None:
    results = await asyncio.gather(*(migrate.migrate(empty_dsn) for _ in range(4)))
    assert sorted(len(r.applied) for r in results) == [0, 0, 0, len(NAMES)]


async def test_whoever_waits_too_long_for_another_says_so(
    empty_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_WAIT", 0.05)
    async with connected(empty_dsn) as other:
        await other.execute("select pg_advisory_lock($1)", migrate.LOCK)
        with pytest.raises(MigrationFailed, match="another process has been migrating"):
            await migrate.migrate(empty_dsn)


async def test_down_and_up_again_gives_the_same_schema(any_empty_database: Database) -> None:
    dsn = any_empty_database.dsn
    before = await catalog(dsn)
    await migrate.migrate(dsn)
    first = await catalog(dsn)

    assert await roll_back(dsn, len(NAMES)) == ""
    left = await catalog(dsn)
    assert {k for k in left.keys() - before.keys() if "quotabell_migrations" not in k} == set()

    await migrate.migrate(dsn)
    assert await catalog(dsn) == first


async def test_down_keeps_tables_with_rows_unless_told_otherwise(database: Database) -> None:
    async with connected(database.dsn) as connection:
        await connection.execute(A_ROW)
        refusal = await roll_back(database.dsn, len(NAMES))
        assert "not dropped, because these tables hold rows: token_thresholds (1 rows)" in refusal
        assert await connection.fetchval(ROWS) == 1
    assert await roll_back(database.dsn + TOLD_TO_DROP, 2) == ""


async def test_a_migration_file_run_by_psql_loses_no_rows(any_database: Database) -> None:
    """psql runs the up part and then the down part, and goes on after errors."""
    async with connected(any_database.dsn) as connection:
        await connection.execute(A_ROW)
        for name in NAMES:
            any_database.cluster.run(
                *("psql", "--no-psqlrc", "--dbname", any_database.dsn),
                stdin=(MIGRATIONS / name).read_text(encoding="utf-8"),
            )
        assert await connection.fetchval(ROWS) == 1


async def test_a_newer_schema_is_refused_with_both_versions(dsn: str) -> None:
    async with connected(dsn) as connection:
        await connection.execute("insert into quotabell_migrations values ('20990101000000')")
    with pytest.raises(SchemaTooNew, match=rf"20990101000000.*{NAMES[-1].partition('_')[0]}"):
        await migrate.migrate(dsn)


async def test_a_failed_migration_names_its_file_and_leaves_nothing(
    empty_dsn: str, tmp_path: Path
) -> None:
    folder = folder_with(tmp_path, _1_good="create table good ();", _2_bad="create tible bad ();")
    with pytest.raises(MigrationFailed, match=r'2_bad\.sql: syntax error at or near "tible"'):
        await migrate.migrate(empty_dsn, folder)
    (folder / "2_bad.sql").write_text("-- migrate:up\ncreate table bad ();\n-- migrate:down\n")
    assert (await migrate.migrate(empty_dsn, folder)).applied == ["2_bad.sql"]


async def test_a_migration_may_alter_the_table_of_migrations(
    empty_dsn: str, tmp_path: Path
) -> None:
    """Whoever holds the lock must not hold that table as well."""
    folder = folder_with(tmp_path, _1_first="select;")
    await migrate.migrate(empty_dsn, folder)
    folder_with(
        tmp_path,
        _2_alter="set lock_timeout = '5s';"
        "alter table quotabell_migrations enable row level security;",
    )
    assert (await migrate.migrate(empty_dsn, folder)).applied == ["2_alter.sql"]


async def test_no_password_is_on_the_command_line_and_cancelling_ends_dbmate(
    empty_database: Database, tmp_path: Path
) -> None:
    folder = folder_with(tmp_path, _1_wait="select pg_advisory_xact_lock(42);")
    async with connected(empty_database.dsn) as blocker:
        await blocker.execute("select pg_advisory_lock(42)")
        migrating = asyncio.create_task(migrate.migrate(empty_database.tcp_dsn, folder))

        waiting = "select true from pg_stat_activity where wait_event = 'advisory' and query ~ '42'"
        await eventually(lambda: blocker.fetchval(waiting))
        (child,) = (p for p in children() if b"dbmate" in (p / "cmdline").read_bytes())
        command = (child / "cmdline").read_text()
        assert "migrate" in command
        assert empty_database.cluster.password not in command

        migrating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await migrating
        assert not child.exists()


async def test_no_error_tells_the_password(empty_database: Database, tmp_path: Path) -> None:
    folder = folder_with(tmp_path, _1_bad="nonsense;")
    secret = "s3cr3t %/:?#"
    good = empty_database.tcp_dsn
    wrong = good.replace(empty_database.cluster.password, "s3cr3t%20%25%2F%3A%3F%23")
    broken = ("postgresql://me:s3cr3t%20@127.0.0.1:nonsense/x", "postgres://me:s3cr3t/x@db/x")
    for dsn in (good, wrong, *broken, "postgres://me:s3cr3t[@db/x", "s3cr3t"):
        with pytest.raises(MigrationFailed) as failure:
            await migrate.migrate(dsn, folder)
        told = f"{failure.value!r} {failure.value}"
        assert "s3cr3t" not in told
        assert secret not in told
        assert empty_database.cluster.password not in told


async def test_a_database_that_is_away_is_unavailable() -> None:
    with pytest.raises(Unavailable):
        await migrate.migrate("postgresql://me@127.0.0.1:1/x")


async def test_a_role_that_may_not_create_roles_is_told_what_to_run() -> None:
    programs = embedded_18()
    assert programs is not None
    cluster = Cluster("18", programs)
    try:
        cluster.start()
        cluster.execute("create role plain login")
        cluster.execute("create database plain owner plain")
        dsn = cluster.dsn("plain", "plain")
        with pytest.raises(MigrationFailed, match="plain may not create roles"):
            await migrate.migrate(dsn)
        cluster.execute("create role quotabell_reader nologin")
        with pytest.raises(MigrationFailed, match="GRANT quotabell_reader TO plain;"):
            await migrate.migrate(dsn)
        cluster.execute("grant quotabell_reader to plain; alter role quotabell_reader bypassrls")
        with pytest.raises(MigrationFailed, match="could see the rows of every user"):
            await migrate.migrate(dsn)
        cluster.execute("alter role quotabell_reader nobypassrls")
        assert (await migrate.migrate(dsn)).applied == NAMES
    finally:
        cluster.stop()


def test_the_schema_file_is_what_the_migrations_make(database: Database) -> None:
    assert dump(database) == SCHEMA.read_text(encoding="utf-8"), "run scripts/dump-schema"


async def test_the_schema_file_loads_by_psql_and_needs_no_migration(
    any_empty_database: Database, any_database: Database
) -> None:
    any_empty_database.load(SCHEMA)
    assert (await migrate.migrate(any_empty_database.dsn)).applied == []
    assert await catalog(any_empty_database.dsn) == await catalog(any_database.dsn)
    async with connected(any_empty_database.dsn) as connection:
        assert await connection.fetchval("select count(*) from settings") == 1
