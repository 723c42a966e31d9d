"""Every older version's database is upgraded as it is used.

Number 0 is the older service's own schema, and its clients go on writing while the daemon takes
the tables over. Every release adds a dump of its own (scripts/dump-version).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from quotabell.store.migrate import schema_folder
from tests.drills.ground import rows
from tests.support import daemon
from tests.support.postgres import Cluster, Database, identity
from tests.support.version_dump import DUMPS, EVENTS, PROVIDER, SNAPSHOTS, THRESHOLD, dump, fill
from tests.support.waiting import eventually

LATEST = max(path.name.partition("_")[0] for path in (schema_folder() / "migrations").iterdir())
LIMIT = 1000


class Psql:
    """The older service: one session that stores usage row by row, as if nothing happened."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.stored: list[str] = []  # models, of which psql said that they were written
        self.refused: list[str] = []  # what it said of the others

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        cluster = self._database.cluster
        process = await asyncio.create_subprocess_exec(
            *(str(cluster.bin / "psql"), "--no-psqlrc", "--quiet", "--no-align", "--tuples-only"),
            *("--dbname", self._database.dsn),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            cwd=cluster.root,
            **identity(),
        )
        stop = asyncio.Event()
        writer = asyncio.create_task(self._write(process, stop))
        try:
            yield
        finally:
            stop.set()
            await writer
            await process.communicate(b"\\q\n")

    async def _write(self, process: asyncio.subprocess.Process, stop: asyncio.Event) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        number = 0
        while not stop.is_set():
            number += 1
            model = f"written-{number}"
            process.stdin.write(
                "insert into token_usage (provider, model, tokens_used, token_limit) "
                f"values ('older', '{model}', {number}, {LIMIT});\n\\echo :SQLSTATE\n".encode()
            )
            async with asyncio.timeout(60):
                said = (await process.stdout.readline()).decode().strip()
            if said == "00000":
                self.stored.append(model)
            else:
                self.refused.append(said)
            await asyncio.sleep(0.01)


async def _upgraded(database: Database, folder: Path) -> Psql:
    """Start a daemon on it while an old-style writer is at work; what that has written."""
    older = Psql(database)
    config = daemon.write_config(folder, database.dsn)
    async with daemon.process(config, start=False) as process:
        async with older.writing():
            await eventually(lambda: len(older.stored) > 20, timeout=30)
            before = len(older.stored)
            await process.start(timeout=120)
            after = len(older.stored)
            await eventually(lambda: len(older.stored) > after + 20, timeout=30)
        assert before > 20
        await _check_writer(database, older)
        async with aiohttp.ClientSession(process.url) as session:
            body = {"provider": "new", "model": "new", "tokensUsed": 1, "tokenLimit": LIMIT}
            async with session.post("/api/token-monitor/update", json=body) as answer:
                assert answer.status == 200
            async with session.get("/metrics") as answer:
                text = await answer.text()
        assert f'model="{older.stored[0]}"' in text
        assert f'model="{older.stored[-1]}"' in text
        assert await process.end() == 0
    [version] = await rows(database, "select max(version) as v from quotabell_migrations")
    assert version["v"] == LATEST
    return older


async def _check_writer(database: Database, older: Psql) -> None:
    """All that was written is there, once, and nothing was refused."""
    found = await rows(
        database,
        "select model, tokens_used, percentage from token_usage where provider = 'older'",
    )
    assert sorted(row["model"] for row in found) == sorted(older.stored)
    assert older.refused == []
    for row in found:
        number = int(row["model"].removeprefix("written-"))
        assert (row["tokens_used"], row["percentage"]) == (number, number * 100 / LIMIT)


async def test_number_0_the_older_service_goes_on_writing_while_its_tables_are_taken_over(
    original: Database, tmp_path: Path
) -> None:
    await _upgraded(original, tmp_path)

    found = await rows(
        original, "select model from token_usage where provider in ('openai', 'anthropic')"
    )
    assert len(found) == 4  # of seven rows, three were duplicates


async def _check_dump(database: Database) -> None:
    found = await rows(
        database,
        "select model, tokens_used, token_limit from token_usage "
        f"where provider = '{PROVIDER}' and quota = 'reported'",
    )
    assert {r["model"]: (r["tokens_used"], r["token_limit"]) for r in found} == SNAPSHOTS
    sums = f"select requests, input from token_totals where provider = '{PROVIDER}'"
    assert [tuple(row) for row in await rows(database, sums)] == [(EVENTS, 10 * EVENTS)]
    limits = f"select threshold_percentage as p from token_thresholds where provider = '{PROVIDER}'"
    assert [row["p"] for row in await rows(database, limits)] == [THRESHOLD]
    browsers = "select user_id from push_subscriptions where is_active"
    assert [row["user_id"] for row in await rows(database, browsers)] == ["alice"]


RELEASED = sorted(DUMPS.glob("*.sql"))
if RELEASED:  # before the first release an empty set would be a skipped test

    @pytest.mark.parametrize("path", RELEASED, ids=lambda path: path.stem)
    async def test_the_database_of_a_release_is_upgraded_with_its_data_under_load(
        path: Path, any_empty_database: Database, tmp_path: Path
    ) -> None:
        any_empty_database.load(path)

        await _upgraded(any_empty_database, tmp_path)

        await _check_dump(any_empty_database)


async def test_the_dump_that_a_release_will_leave_can_be_loaded_and_used(
    empty_database: Database, postgres_15: Cluster, tmp_path: Path
) -> None:
    await fill(empty_database, tmp_path / "of")
    file = tmp_path / "dump.sql"
    file.write_text(dump(empty_database), encoding="utf-8")
    loaded = postgres_15.create_database()
    try:
        loaded.load(file)

        await _upgraded(loaded, tmp_path / "on")

        await _check_dump(loaded)
    finally:
        await asyncio.to_thread(postgres_15.drop_database, loaded.name)
