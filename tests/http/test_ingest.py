"""Group commit as clients see it: over the real port, many at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from tests.http.client import UPDATE, Client, serving, snapshot
from tests.support.daemon import configure
from tests.support.waiting import eventually


@contextlib.asynccontextmanager
async def held(dsn: str) -> AsyncIterator[None]:
    """Nothing can be written meanwhile, only read."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("lock table token_usage in share mode")
            yield
    finally:
        await connection.close()


async def execute(dsn: str, sql: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def waiting(client: Client) -> float:
    return await client.metric("quotabell_ingest_queue_events") or 0.0


async def used(client: Client) -> dict[str, float]:
    return {
        s.labels["model"]: s.value
        for s in await client.samples("usage")
        if s.name == "quotabell_quota_used_tokens"
    }


async def test_concurrent_posts_share_their_commits(tmp_path: Path, dsn: str):
    async with serving(configure(tmp_path, dsn)) as client:
        async with held(dsn):
            posts = [
                asyncio.ensure_future(client.update(snapshot(model=f"m{n}", tokensUsed=n)))
                for n in range(200)
            ]
            await eventually(lambda: _equals(waiting(client), 200))
        replies = await asyncio.gather(*posts)
        batches = await client.metric("quotabell_ingest_batch_events_count")
        events = await client.metric("quotabell_ingest_batch_events_sum")
        stored = await used(client)

    assert [r.data["tokensUsed"] for r in replies] == list(range(200))
    assert events == 200
    assert batches is not None
    assert batches <= 10  # those that came before the lock was met, and one for the rest
    assert stored == {f"m{n}": n for n in range(200)}


async def _equals(value: object, wanted: float) -> bool:
    return await value == wanted  # type: ignore[misc]


async def test_what_the_database_refuses_fails_alone(tmp_path: Path, dsn: str):
    await execute(dsn, "alter table token_usage add constraint no_poison check (model <> 'poison')")
    async with serving(configure(tmp_path, dsn)) as client:
        async with held(dsn):
            posts = [
                asyncio.ensure_future(client.update(snapshot(model=f"m{n}"))) for n in range(199)
            ]
            poison = asyncio.ensure_future(client.update(snapshot(model="poison")))
            array = asyncio.ensure_future(
                client.update([snapshot(model=m) for m in ("a", "b", "poison", "c")])
            )
            single = asyncio.ensure_future(client.update([snapshot(model="poison")]))
            await eventually(lambda: _equals(waiting(client), 199 + 1 + 4 + 1))
        replies = await asyncio.gather(*posts)
        refused = await asyncio.gather(poison, array, single)
        stored = await used(client)

    assert {r.status for r in replies} == {200}
    assert [r.fields() for r in refused] == [{("", None)}, {("", 2)}, {("", 0)}]
    assert not [r for r in refused if b"no_poison" in r.body]
    assert stored.keys() == {f"m{n}" for n in range(199)}


async def test_a_full_queue_is_told_to_come_back_in_a_second(tmp_path: Path, dsn: str):
    config = configure(tmp_path, dsn, ingest={"max_pending": 20, "max_batch": 20})
    async with serving(config) as client:
        async with held(dsn):
            fits = [
                asyncio.ensure_future(client.update([snapshot(model=f"m{n}"), snapshot()]))
                for n in range(10)
            ]
            await eventually(lambda: _equals(waiting(client), 20))
            async with asyncio.timeout(1):
                reply = await client.update([snapshot(), snapshot(), snapshot()])
        replies = await asyncio.gather(*fits)
        unavailable = await client.metric("quotabell_ingest_events_total", outcome="unavailable")
        again = await client.update(snapshot())

    assert "queue" in reply.problem(503)["detail"]
    assert reply.headers["Retry-After"] == "1"
    assert {r.status for r in replies} == {200}
    assert again.status == 200
    assert unavailable == 3


async def test_a_client_that_hangs_up_does_not_cancel_its_report(
    tmp_path: Path, dsn: str, capfd: pytest.CaptureFixture[str]
):
    async with serving(configure(tmp_path, dsn)) as client:
        async with held(dsn):
            body = '{"provider":"p","model":"left","tokensUsed":5,"tokenLimit":9}'
            host, _, port = client.url.removeprefix("http://").partition(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                f"POST {UPDATE} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
            )
            await eventually(lambda: _equals(waiting(client), 1))
            writer.transport.abort()
        await eventually(lambda: _equals(waiting(client), 0))
        stored = await used(client)

    assert stored == {"left": 5}
    assert capfd.readouterr().err == ""
