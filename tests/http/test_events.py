"""``POST /api/token-monitor/events`` over HTTP: what counts, what is refused, what Prometheus
then sees."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quotabell.http.events import PATH
from tests.http.client import Client
from tests.support.postgres import Database, connected

pytestmark = pytest.mark.asyncio(loop_scope="module")


def event(id: str | None, **more: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    values = {"id": id, "time": now, "provider": "openai", "model": "gpt-5", "inputTokens": 7}
    return {k: v for k, v in (values | more).items() if v is not None}


async def send(client: Client, body: Any, **options: Any) -> Any:
    reply = await client.post(PATH, json=body, **options)
    assert reply.status == 200, reply.body
    return reply.json


def counts(accepted: int = 0, duplicates: int = 0, corrected: int = 0) -> dict[str, Any]:
    return {
        "accepted": accepted,
        "duplicates": duplicates,
        "corrected": corrected,
        "rejected": [],
    }


async def test_one_event_counts_once_however_often_it_is_sent(client: Client):
    body = event("once", outputTokens=3)

    assert await send(client, body) == counts(accepted=1)
    assert await send(client, body) == counts(duplicates=1)
    assert await send(client, body | {"outputTokens": 30}) == counts(corrected=1)
    assert await send(client, [body, body | {"outputTokens": 31}]) == counts(
        duplicates=1, corrected=1
    )


@pytest.mark.parametrize("kind", ["application/x-ndjson", "application/json"])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_lines_of_json_are_events(client: Client, kind: str, encoding: str):
    events = [event(f"{kind} {encoding} {n}") for n in range(3)]
    text = "\n".join(map(json.dumps, events)).encode()
    reply = await client.post(
        PATH,
        data=gzip.compress(text) if encoding == "gzip" else text,
        headers={"Content-Type": kind, "Content-Encoding": encoding},
    )

    assert reply.json == counts(accepted=3)


async def test_a_bad_event_is_refused_alone_with_its_fields(client: Client):
    batch = [event("good"), event("bad", inputTokens=-1, provider=""), event("late", time="1999")]
    answer = await send(client, batch)

    assert answer["accepted"] == 1
    assert [
        (item["index"], {fault["field"] for fault in item["errors"]}) for item in answer["rejected"]
    ] == [(1, {"inputTokens", "provider"}), (2, {"time"})]


async def test_what_is_too_old_says_so(client: Client):
    old = (datetime.now(UTC) - timedelta(days=36)).isoformat()
    found = (await client.post(PATH, json=event("old", time=old))).problem(422)

    assert found["errors"][0]["message"].startswith("tooOld: ")


async def test_nothing_but_bad_events_is_a_problem(client: Client):
    reply = await client.post(PATH, json=[event("x", model=None), event("y", time=None)])

    assert reply.fields() == {("model", 0), ("time", 1)}


async def test_one_that_the_database_refuses_costs_only_itself(
    client: Client, shared_database: Database
):
    async with connected(shared_database.dsn) as connection:
        await connection.execute(
            "alter table usage_events add constraint no_poison check (model <> 'poison')"
        )
    batch = [event(f"beside {n}") for n in range(5)]
    batch.insert(2, event("it", model="poison"))
    answer = await send(client, batch)

    assert answer["accepted"] == 5
    assert [item["index"] for item in answer["rejected"]] == [2]


async def test_a_providers_own_usage_is_read(client: Client):
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "total_tokens": 150,
        "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    body = event("chat", inputTokens=None, usage=usage, userId="reader", provider="chat")
    assert await send(client, body) == counts(accepted=1)

    metrics = (await client.get("/metrics?collect[]=usage")).body.decode()
    found = {
        line.split('kind="')[1].split('"')[0]: int(line.rsplit(" ", 1)[1])
        for line in metrics.splitlines()
        if line.startswith("quotabell_tokens_total") and 'user="reader"' in line
    }
    assert found == {"input": 60, "cache_read": 40, "output": 30, "reasoning": 20}
    assert 'quotabell_requests_total{provider="chat",model="gpt-5",user="reader"} 1' in metrics


async def explain(client: Client, *events: Any) -> Any:
    reply = await client.post(f"{PATH}?dryRun=true", json=list(events))
    assert reply.status == 200, reply.body
    return reply.json


async def test_a_dry_run_says_how_each_item_would_count_and_stores_nothing(client: Client):
    stored = event("dry-1", outputTokens=3, userId="dora")
    await send(client, stored)
    answer = await explain(
        client,
        stored,
        stored | {"outputTokens": 9, "userId": "somebody else"},
        event("dry-2", userId="dora"),
        event("dry-2", outputTokens=1),
        {"provider": "openai"},
    )

    items = answer["items"]
    assert [(item["index"], item["outcome"]) for item in items] == [
        (0, "duplicate"),
        (1, "corrected"),
        (2, "accepted"),
        (3, "corrected"),
    ]
    assert [item["userId"] for item in items] == ["dora"] * 4
    assert [item["totalTokens"] for item in items] == [10, 16, 7, 8]
    key = {"source": "local/", "id": "dry-1", "day": stored["time"][:10]}
    assert [item["duplicateOf"] for item in items] == [key, key, None, key | {"id": "dry-2"}]
    assert items[1]["kinds"] == {
        **{"input": 7, "cacheRead": 0, "cacheWrite": 0},
        **{"output": 9, "reasoning": 0, "other": 0},
    }
    assert [item["index"] for item in answer["rejected"]] == [4]
    assert await send(client, [stored, event("dry-2", userId="dora")]) == counts(
        accepted=1, duplicates=1
    )


async def test_a_dry_run_is_true_or_false(client: Client):
    reply = await client.post(f"{PATH}?dryRun=perhaps", json=event("x"))

    assert reply.status == 422
    assert reply.json["errors"][0]["field"] == "dryRun"


async def test_prompts_and_answers_are_stored_nowhere(client: Client, shared_database: Database):
    canary = "the-canary-sings-at-dawn"
    body = event("secretive") | {
        "prompt": canary,
        "messages": [{"content": canary}],
        "usage_note": {"text": canary},
    }
    await send(client, body)

    assert canary not in shared_database.cluster.run(
        "pg_dump", "--dbname", shared_database.admin_dsn
    )
