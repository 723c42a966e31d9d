"""One call that is reported in several ways: by retries, libraries, replicas, and its parts."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from quotabell.http.events import PATH
from tests.http.client import Client, serving
from tests.http.test_events import counts, event, send
from tests.http.test_receivers import traces
from tests.support.daemon import configure, process, write_config
from tests.support.postgres import Database, connected
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUOTA = {"name": "users", "limit": 1_000, "window": "month", "per": ["user"]}
SUMS = """
select (select sum(input + output) from usage_events) as events,
    (select sum(input + output) from token_totals) as totals,
    (select sum(tokens_used) from token_usage where quota = 'users') as states,
    (select sum(requests) from token_totals) as requests
"""


async def held(database: Database) -> tuple[int, ...]:
    """Tokens by events, sums and quota states, and requests; of calls of this month."""
    async with connected(database.dsn) as connection:
        return tuple(map(int, await connection.fetchrow(SUMS) or ()))


@pytest.mark.parametrize("final_first", [False, True])
async def test_partial_and_final_counts_of_a_stream_are_one_call(
    database: Database, tmp_path: Path, final_first: bool
) -> None:
    """Within a batch, and again at once by many to two daemons."""
    at = datetime.now(UTC)
    partial = event("stream", time=(at - timedelta(seconds=3)).isoformat(), outputTokens=5)
    final = event("stream", time=at.isoformat(), outputTokens=90)
    batch = [final, partial] if final_first else [partial, final]
    one = configure(tmp_path / "one", database.dsn, quotas=[QUOTA])
    other = configure(tmp_path / "other", database.dsn, quotas=[QUOTA])
    async with serving(one) as first, serving(other) as second:
        bodies = [batch, partial, final, batch[::-1]] * 2
        said = await asyncio.gather(
            *(send((first, second)[n % 2], body) for n, body in enumerate(bodies))
        )

    assert sum(answer["accepted"] for answer in said) == 1
    assert sum(answer["corrected"] for answer in said) <= 1
    assert await held(database) == (97, 97, 97, 1)


async def test_a_call_stays_its_own_over_restarts_and_other_aliases(
    database: Database, tmp_path: Path
) -> None:
    call = event("aliased", userId="alice@example.com")
    first = configure(tmp_path / "first", database.dsn, quotas=[QUOTA])
    async with serving(first) as client:
        assert await send(client, call) == counts(accepted=1)
    aliased = {"aliases": {"alice@example.com": "alice"}}
    second = configure(tmp_path / "second", database.dsn, quotas=[QUOTA], identity=aliased)
    async with serving(second) as client:
        assert await send(client, call) == counts(duplicates=1)
        assert await send(client, call | {"inputTokens": 70}) == counts(corrected=1)

    assert await held(database) == (70, 70, 70, 1)
    async with connected(database.dsn) as connection:
        users = await connection.fetch("select user_id from token_usage where quota = 'users'")
    assert [row["user_id"] for row in users] == ["alice@example.com"]


async def test_spans_of_two_libraries_with_one_response_are_one_call(
    database: Database, tmp_path: Path
) -> None:
    """In one export and in two; with their own names, spans and times."""
    first, second = (traces(model="gpt-5", user="alice") for _ in range(2))
    for number, export in enumerate((first, second)):
        scope = export["resourceSpans"][0]["scopeSpans"][0]
        scope["scope"]["name"] = f"library-{number}"
        for attribute in scope["spans"][0]["attributes"]:
            if attribute["key"] == "gen_ai.response.id":
                attribute["value"]["stringValue"] = "chatcmpl-of-both"
    both = {"resourceSpans": first["resourceSpans"] + second["resourceSpans"]}
    async with serving(configure(tmp_path, database.dsn, quotas=[QUOTA])) as client:
        for export in (first, second, both):
            assert (await client.post("/v1/traces", json=export)).status == 200

    assert await held(database) == (150, 150, 150, 1)


@pytest.mark.parametrize("first", [0, 1])
async def test_a_call_around_midnight_utc_is_one(
    database: Database, tmp_path: Path, first: int
) -> None:
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    times = [(midnight + timedelta(milliseconds=offset)).isoformat() for offset in (-100, 100)]
    async with serving(configure(tmp_path, database.dsn)) as client:
        assert await send(client, event("turn", time=times[first])) == counts(accepted=1)
        assert await send(client, event("turn", time=times[1 - first])) == counts(duplicates=1)
        both = [event("turn", time=time, outputTokens=2) for time in times]
        assert await send(client, both) == counts(corrected=1, duplicates=1)


async def test_a_reload_does_not_wait_for_the_states_that_follow_it(
    database: Database, tmp_path: Path
) -> None:
    quotas = [QUOTA]

    def config() -> Any:
        return configure(tmp_path, database.dsn, quotas=quotas, alerts={"evaluate_every": "200ms"})

    limits = "select token_limit from token_usage where quota = 'users'"
    async with serving(config(), reread=config) as client:
        await send(client, event("used", userId="alice"))
        quotas[0] = QUOTA | {"limit": 5}
        async with connected(database.dsn) as holding:
            async with holding.transaction():
                await holding.execute("select from token_usage for update")
                assert (await client.post("/-/reload")).status == 204
                assert await holding.fetchval(limits) == 1_000

            async def followed() -> bool:
                return (await holding.fetchval(limits),) == (5,)

            await eventually(followed, timeout=20)
            alert = "select level from alerts where quota = 'users' and status = 'firing'"
            assert await holding.fetchval(alert) == 100


async def test_what_people_wrote_is_neither_stored_nor_logged(
    database: Database, tmp_path: Path
) -> None:
    """Whether it came with what counts, with what is refused, or as what nobody can read."""
    canary = "the-canary-sings-at-noon"
    good = event("good") | {"prompt": canary, "usage_note": {"text": canary}}
    wrong = event("wrong", inputTokens=canary) | {"messages": [{"content": canary}]}
    unreadable = (f'{{"{canary}": ', json.dumps([canary]), f"{canary}\n{canary}", "\0" + canary)
    config = write_config(tmp_path, database.dsn, quotas=[QUOTA], log={"level": "debug"})
    async with process(config) as daemon, aiohttp.ClientSession() as session:
        client = Client(session, daemon.url)
        answer = await send(client, [good, wrong])
        for body in unreadable:
            for kind in ("application/json", "application/x-ndjson", "text/plain"):
                reply = await client.post(PATH, data=body, headers={"Content-Type": kind})
                assert 400 <= reply.status < 500, (reply.status, reply.body)
        dump = database.cluster.run("pg_dump", "--dbname", database.admin_dsn)

    assert (answer["accepted"], len(answer["rejected"])) == (1, 1)
    said = daemon.log_file.read_text()
    assert "quotabell is ready" in said
    assert canary not in dump + said
