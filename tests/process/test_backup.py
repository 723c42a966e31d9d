"""Backups: as of one moment beside a running daemon, restored the same, all or nothing."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from quotabell.config import load
from quotabell.errors import SchemaTooNew
from quotabell.store import contents, programs, restore
from quotabell.store.backup import BadBackup, back_up
from quotabell.store.migrate import TABLE
from quotabell.store.programs import ProgramFailed, ProgramMissing, Programs, Target
from quotabell.store.restore import NotEmpty, put_back, verify
from tests.process.terminal import command
from tests.support import daemon
from tests.support.databases import fresh
from tests.support.postgres import Cluster, Database, connected, embedded_18

EX_DATAERR, EX_NOINPUT, EX_CANTCREAT = 65, 66, 73


def quiet(table: str, done: int, of: int) -> None:
    """Progress that nobody watches."""


async def fill(dsn: str) -> None:
    """Rows that are hard on a dump: text of all sorts, partitions, numerics, sequences."""
    async with connected(dsn) as connection:
        day = datetime.now(UTC).date()
        await connection.execute(
            "select quotabell_keep_parts('usage_events', 'day', $1::date, $1::date)", day
        )
        for n, user in enumerate(["alice", "bo\\b\t\n", "日本", "; drop table x; --", "\\."]):
            await connection.execute(
                "insert into token_usage (user_id, provider, model, tokens_used, token_limit) "
                "values ($1, 'openai', 'gpt-5', $2, 100)",
                user,
                50 + 10 * n,
            )
            await connection.execute(
                "insert into usage_events (source, event_id, day, time, user_id, provider, model, "
                "input, cost_usd) values ('local/x', $1, $2, now(), $3, 'openai', 'gpt-5', 7, 0.1)",
                str(n),
                day,
                user,
            )
            await connection.execute(
                "insert into push_subscriptions (user_id, subscription) values ($1, $2::jsonb)",
                user,
                f'{{"endpoint": "https://push.example/{n}", "keys": {{"auth": "canary"}}}}',
            )


async def sums(dsn: str) -> dict[str, contents.Sum]:
    async with connected(dsn) as connection, connection.transaction():
        return await contents.sums(connection)


def schema(database: Database) -> list[str]:
    """All that pg_dump says of the schema, rights included, in any order."""
    said = database.cluster.run(
        *("pg_dump", "--schema-only", "--schema=public", "--schema=quotabell_parts"),
        f"--dbname={database.admin_dsn}",
    )
    return sorted(line for line in said.splitlines() if not line.startswith(("--", "\\")))


@pytest.fixture
def empty_beside(any_database: Database) -> Iterator[Database]:
    """An empty database of the same server."""
    yield from fresh(any_database.cluster)


async def test_a_backup_is_restored_the_same_in_rows_rights_and_rules(
    any_database: Database, empty_beside: Database, tmp_path: Path
) -> None:
    await fill(any_database.dsn)
    path = tmp_path / "quotabell.dump"

    made = await back_up(any_database.tcp_dsn, path, quiet, summed=True)
    done = await put_back(empty_beside.tcp_dsn, path, quiet)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == [path.name]
    assert made.sums["usage_events"].rows == made.sums["push_subscriptions"].rows == 5
    assert await sums(empty_beside.dsn) == made.sums == await sums(any_database.dsn)
    assert schema(empty_beside) == schema(any_database)
    assert done.left_out == []
    async with connected(empty_beside.dsn) as connection:
        # The trigger rings, the sequences go on, and a user sees their own rows only.
        await connection.execute("update token_usage set tokens_used = 95 where user_id = 'alice'")
        assert await connection.fetchval("select count(*) from alerts where level = 90") >= 1
        async with connection.transaction():
            await connection.execute("set local role quotabell_reader")
            claims = "select set_config('request.jwt.claims', '{\"sub\": \"alice\"}', true)"
            await connection.execute(claims)
            assert await connection.fetchval("select count(*) from token_usage") == 1
    with pytest.raises(NotEmpty, match="active_alerts"):
        await put_back(empty_beside.tcp_dsn, path, quiet)


async def test_newer_programs_serve_an_older_server(
    postgres_15: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = embedded_18()
    assert folder is not None
    monkeypatch.setattr(programs, "_installed", lambda: iter([Programs(folder, 18)]))
    for source in fresh(postgres_15, "quotabell_template"):
        await fill(source.dsn)
        made = await back_up(source.tcp_dsn, tmp_path / "file", quiet, summed=True)

        assert await verify(source.tcp_dsn, tmp_path / "file", made.sums, quiet) == []


async def test_a_backup_holds_one_moment_of_a_daemon_that_goes_on(
    database: Database, tmp_path: Path
) -> None:
    path = daemon.write_config(tmp_path, database.tcp_dsn)
    async with daemon.running(load(path, {})) as running:
        stop = asyncio.Event()
        writing = asyncio.create_task(_write(running.url, stop))
        try:
            done = await command("backup", "--config", path, tmp_path / "file", "--verify")
        finally:
            stop.set()
            written = await writing

    assert (done.code, done.err) == (0, ""), done
    assert "restored the same" in done.out
    assert f"Keep the Web Push key as well: {tmp_path / 'push.key'}" in done.out
    assert written > 1
    async with connected(database.cluster.admin_dsn()) as connection:
        left = "select count(*) from pg_database where datname like 'quotabell_verify_%'"
        assert await connection.fetchval(left) == 0


async def _write(url: str, stop: asyncio.Event) -> int:
    """Report until told to stop; how many reports that were."""
    written = 0
    async with aiohttp.ClientSession() as session:
        while not stop.is_set():
            call = {"provider": "openai", "model": "gpt-5", "userId": str(written % 7)}
            body: list[dict[str, Any]] = [call | {"inputTokens": n} for n in range(1, 50)]
            async with session.post(f"{url}/api/token-monitor/events", json=body) as reply:
                assert reply.status == 200
            written += 1
            await asyncio.sleep(0.01)
    return written


async def test_a_difference_is_found(database: Database, tmp_path: Path) -> None:
    await fill(database.dsn)
    made = await back_up(database.dsn, tmp_path / "file", quiet, summed=True)
    async with connected(database.dsn) as connection:
        await connection.execute("update token_usage set tokens_used = 1 where user_id = 'alice'")
        await connection.execute("delete from push_subscriptions where user_id = 'alice'")

    found = await verify(database.dsn, tmp_path / "file", await sums(database.dsn), quiet)

    assert "push_subscriptions: 4 rows, restored 5" in found
    assert "token_usage: 5 rows, of which some differ" in found
    assert await verify(database.dsn, tmp_path / "file", made.sums, quiet) == []


async def test_a_restored_daemon_goes_on_where_the_other_ended(
    database: Database, empty_database: Database, tmp_path: Path
) -> None:
    config = daemon.write_config(tmp_path, database.tcp_dsn)
    async with daemon.running(load(config, {})) as running:
        await _write_once(running.url)
    assert (await command("backup", "-c", config, tmp_path / "file")).code == 0
    there = daemon.write_config(tmp_path / "there", empty_database.tcp_dsn)
    other = daemon.write_config(tmp_path / "other", empty_database.tcp_dsn, push={"key_files": []})

    restored = await command("restore", "-c", other, tmp_path / "file")

    assert restored.code == 0, restored.err
    assert "Web Push key" in restored.out
    assert "vapid.pem" in restored.out
    async with daemon.running(load(there, {})) as running, aiohttp.ClientSession() as session:
        async with session.get(f"{running.url}/api/token-monitor/usage") as reply:
            assert [i["tokensUsed"] for i in (await reply.json())["items"]] == [91]
    again = await command("restore", "-c", there, tmp_path / "file")
    assert again.code == 1
    assert "restore into a new one" in again.err


async def _write_once(url: str) -> None:
    body = {"provider": "openai", "model": "gpt-5", "tokensUsed": 91, "tokenLimit": 100}
    async with aiohttp.ClientSession() as session:
        async with session.post(f"{url}/api/token-monitor/update", json=body) as reply:
            assert reply.status == 200


# --- what is refused -----------------------------------------------------------------------


async def test_nothing_is_overwritten_and_nothing_half_done_is_left(
    database: Database, empty_database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    (folder / "mine").write_text("precious")
    config = daemon.write_config(tmp_path, database.dsn)
    nothing = daemon.write_config(tmp_path / "nothing", empty_database.dsn)

    taken = await command("backup", "-c", config, folder / "mine")
    nowhere = await command("backup", "-c", config, folder / "no" / "where")
    empty = await command("backup", "-c", nothing, folder / "empty")
    (folder / "bad").write_text("no backup")
    bad = await command("restore", "-c", nothing, folder / "bad")
    missing = await command("restore", "-c", nothing, folder / "missing")

    assert [done.code for done in (taken, nowhere, empty, bad, missing)] == [
        *(EX_CANTCREAT, EX_CANTCREAT, 1, EX_DATAERR, EX_NOINPUT)
    ]
    assert (folder / "mine").read_text() == "precious"
    assert sorted(os.listdir(folder)) == ["bad", "mine"]
    assert "nothing to back up" in empty.err


async def test_a_restore_that_fails_leaves_nothing(
    database: Database, empty_database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(database.dsn)
    await back_up(database.dsn, tmp_path / "file", quiet)
    fitting = restore._fitting
    monkeypatch.setattr(restore, "_fitting", lambda *about: f"{fitting(*about)}select canary();\n")

    with pytest.raises(ProgramFailed, match="canary"):
        await put_back(empty_database.dsn, tmp_path / "file", quiet)

    async with connected(empty_database.dsn) as connection:
        assert await contents.what_is_there(connection) == []


async def test_what_cannot_be_restored_here_is_refused_before_anything_is_done(
    database: Database,
    empty_database: Database,
    postgres_15: Cluster,
    tmp_path: Path,
) -> None:
    await back_up(database.dsn, tmp_path / "file", quiet)
    for older in fresh(postgres_15):
        with pytest.raises(BadBackup, match="Postgres 18, and this server is Postgres 15"):
            await put_back(older.dsn, tmp_path / "file", quiet)
    async with connected(database.dsn) as connection:
        await connection.execute(f"insert into {TABLE} values ('29991231000000')")
    await back_up(database.dsn, tmp_path / "newer", quiet)
    with pytest.raises(SchemaTooNew, match="29991231000000"):
        await put_back(empty_database.dsn, tmp_path / "newer", quiet)


async def test_who_may_not_make_a_scratch_database_is_told(
    database: Database, tmp_path: Path
) -> None:
    made = await back_up(database.dsn, tmp_path / "file", quiet, summed=True)
    database.cluster.execute("alter role quotabell nocreatedb")
    try:
        with pytest.raises(BadBackup, match="CREATEDB"):
            await verify(database.dsn, tmp_path / "file", made.sums, quiet)
    finally:
        database.cluster.execute("alter role quotabell createdb")


def test_programs_older_than_the_server_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [Programs(Path("/old"), 15), Programs(Path("/new"), 17), Programs(Path("/next"), 18)]
    monkeypatch.setattr(programs, "_installed", lambda: iter(here))

    assert programs.usable_programs(15).major == 15
    assert programs.usable_programs(16).major == 17
    with pytest.raises(ProgramMissing, match=r"found: 15, 17, 18.*postgresql-client-19"):
        programs.usable_programs(19)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:ca%40nary@host:5433/db?sslmode=require",
        "postgresql://me@host:5433/db?sslmode=require&password=ca%40nary",
    ],
)
def test_a_password_goes_by_the_environment_only(dsn: str) -> None:
    target = Target.of(dsn)

    assert target.address == "postgresql://me@host:5433/db?sslmode=require"
    assert target.environment["PGPASSWORD"] == "ca@nary"


def test_rights_of_roles_that_are_not_here_are_left_out() -> None:
    left_out: set[str] = set()
    script = "\n".join(
        [
            "CREATE SCHEMA public;",
            "SET transaction_timeout = 0;",
            "GRANT SELECT ON TABLE public.token_usage TO quotabell_reader;",
            "GRANT SELECT ON TABLE public.token_usage TO anon;",
            "GRANT SELECT(id) ON TABLE public.token_usage TO reporting WITH GRANT OPTION;",
            "REVOKE ALL ON FUNCTION public.f() FROM PUBLIC;",
            "CREATE POLICY quotabell_service ON public.alerts TO service_role USING (true);",
            "CREATE POLICY own ON public.alerts FOR SELECT USING (true);",
        ]
    )

    kept = restore._fitting(script, {"me", "reporting"}, left_out)

    assert left_out == {"anon", "service_role"}
    assert [line.split()[0] + " " + line.split()[-1] for line in kept.splitlines()] == [
        "GRANT quotabell_reader;",
        "GRANT OPTION;",
        "REVOKE PUBLIC;",
        "CREATE (true);",
    ]
