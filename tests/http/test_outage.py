"""Without a database, or with one that hangs: visible, bounded, and soon over."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg

from tests.http.client import STATUS, Client, Reply, serving, snapshot
from tests.support.daemon import configure
from tests.support.postgres import Database
from tests.support.waiting import eventually

EXPORTERS_GIVE_UP = 10.0
ANSWERED_WITHIN = 9.5  # the daemon means to in 7.5; this also holds on a busy machine


def cut(database: Database) -> None:
    """Nobody is connected, and nobody can connect."""
    database.cluster.execute(
        f"alter database {database.name} allow_connections false;"
        f"select pg_terminate_backend(pid) from pg_stat_activity"
        f" where datname = '{database.name}'"
    )


def mend(database: Database) -> None:
    database.cluster.execute(f"alter database {database.name} allow_connections true")


async def timed(client: Client, **changes: object) -> tuple[float, Reply]:
    started = time.monotonic()
    reply = await client.update(snapshot(**changes))
    return time.monotonic() - started, reply


async def test_an_outage_is_visible_bounded_and_soon_over(tmp_path: Path, database: Database):
    async with serving(configure(tmp_path, database.dsn)) as client:
        await client.update(snapshot(model="before"))
        await asyncio.to_thread(cut, database)

        outage = [await timed(client) for _ in range(20)]
        status = await client.get(STATUS)
        ready = await client.get("/-/ready")
        healthy = await client.get("/-/healthy")
        health = {s.name: s.value for s in await client.samples("health")}
        usage = await client.get("/metrics", params={"collect[]": "usage"})
        plain = await client.get("/metrics")
        strict = {"Accept": "application/openmetrics-text"}
        nothing = await client.get("/metrics", params={"collect[]": "usage"}, headers=strict)

        await asyncio.to_thread(mend, database)
        backs = [await _back(client)]
        await asyncio.to_thread(cut, database)
        await eventually(lambda: _gone(client))
        await asyncio.to_thread(mend, database)
        backs.append(await _back(client))
        ready_again = await client.get("/-/ready")
        up_again = await client.metric("quotabell_database_up")

    for took, reply in outage:
        assert took < 3.0
        reply.problem(503)
        assert reply.headers["Retry-After"] == "1"
    assert (status.status, status.json["databaseConnected"]) == (503, False)
    assert (ready.status, healthy.status) == (503, 200)
    assert health["quotabell_database_up"] == 0
    assert (usage.status, plain.status) == (200, 200)
    assert nothing.body == b"# EOF\n"
    assert min(backs) < 2.0  # of two tries, as the machine may be busy
    assert ready_again.status == 200
    assert up_again == 1


async def _back(client: Client) -> float:
    """How long it took until a report was taken again."""
    mended = time.monotonic()
    await eventually(lambda: _taken(client))
    return time.monotonic() - mended


async def _gone(client: Client) -> bool:
    return (await client.get(STATUS)).status == 503


async def _taken(client: Client) -> bool:
    return (await client.update(snapshot(model="after"))).status == 200


async def test_backends_that_are_cut_off_cost_a_moment_only(tmp_path: Path, database: Database):
    async with serving(configure(tmp_path, database.dsn)) as client:
        for n in range(3):
            await client.update(snapshot(tokensUsed=n))
            await asyncio.to_thread(
                database.cluster.execute,
                "select pg_terminate_backend(pid) from pg_stat_activity"
                f" where datname = '{database.name}'",
            )
            await eventually(lambda: _taken(client), timeout=2)


async def _asked_over_time(client: Client, seconds: float) -> list[tuple[float, Reply]]:
    """Reports posted all the time for so long, each with what it took to be answered."""
    posts = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        posts.append(asyncio.create_task(timed(client, model=f"m{len(posts)}")))
        await asyncio.sleep(0.1)
    return await asyncio.gather(*posts)


async def test_while_a_lock_is_held_every_report_is_answered_in_time(
    tmp_path: Path, database: Database
):
    async with serving(configure(tmp_path, database.dsn)) as client:
        await client.update(snapshot())
        async with _locked(database.dsn):
            asked = asyncio.ensure_future(_asked_over_time(client, 5.0))
            await asyncio.sleep(1.0)
            started = time.monotonic()
            healthy = await client.get("/-/healthy")
            health = await client.get("/metrics", params={"collect[]": "health"})
            quick = time.monotonic() - started
            whole = await client.get("/metrics")
            answers = await asked
        await eventually(lambda: _taken(client), timeout=2)

    for took, reply in answers:
        assert took < ANSWERED_WITHIN
        reply.problem(503)
        assert reply.headers["Retry-After"] == "1"
    assert max(took for took, _ in answers) > 1.0  # the lock did hold them up
    assert (healthy.status, health.status, whole.status) == (200, 200, 200)
    assert quick < 1.0


@contextlib.asynccontextmanager
async def _locked(dsn: str) -> AsyncIterator[None]:
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("lock table token_usage")  # access exclusive: no reads either
            yield
    finally:
        await connection.close()


async def test_while_the_server_hangs_every_report_is_answered_in_time(
    tmp_path: Path, database: Database
):
    async with serving(configure(tmp_path, database.dsn)) as client:
        await client.update(snapshot())
        with _frozen(await _backends(database)):
            answers = await _asked_over_time(client, 3.0)
            healthy = await client.get("/-/healthy")
            health = await client.get("/metrics", params={"collect[]": "health"})
        await eventually(lambda: _taken(client), timeout=2)

    for took, reply in answers:
        assert took < ANSWERED_WITHIN
        assert reply.status in (200, 503)  # new connections get new backends, which do not hang
    assert max(took for took, _ in answers) > 1.0
    assert (healthy.status, health.status) == (200, 200)


async def _backends(database: Database) -> list[int]:
    connection = await asyncpg.connect(database.cluster.admin_dsn())
    try:
        rows = await connection.fetch(
            "select pid from pg_stat_activity where datname = $1", database.name
        )
    finally:
        await connection.close()
    return [row["pid"] for row in rows]


@contextlib.contextmanager
def _frozen(pids: list[int]) -> Iterator[None]:
    """These processes stand still, as if the network had swallowed all they send."""
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def test_reads_that_hang_do_not_hold_up_reports(tmp_path: Path, database: Database):
    """All connections for reading wait for a lock; those of ingest are their own."""
    config = configure(tmp_path, database.dsn, database={"url": database.dsn, "pool_size": 2})
    async with serving(config) as client:
        connection = await asyncpg.connect(database.dsn)
        async with connection.transaction():
            await connection.execute("lock table push_subscriptions")
            reads = [asyncio.ensure_future(client.get("/api/push/subscriptions")) for _ in range(4)]
            until = time.monotonic() + 3.3  # longer than a connection is waited for
            reports = []
            while time.monotonic() < until:
                reports.append(await timed(client))
                await asyncio.sleep(0.1)
            scrape = await client.get("/metrics")
        await connection.close()
        await asyncio.gather(*reads)

    assert {reply.status for _, reply in reports} == {200}
    assert max(took for took, _ in reports) < 2.5
    assert scrape.status == 200
