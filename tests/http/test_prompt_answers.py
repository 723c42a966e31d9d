"""LiteLLM loses what it logs while it waits for an answer, so one waits for the commit alone."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from tests.http.client import Client, serving
from tests.support.daemon import configure
from tests.support.postgres import TEMPLATE, Cluster, Database, connected
from tests.support.receiver import Receiver, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

LITELLM = "/api/ingest/litellm"
PATIENCE = 30.0  # seconds; nothing is measured: what waited for a lock would wait for ever
ALERTING = (
    *("alerts", "notification_history", "deliveries", "attempts", "digests", "digest_members"),
    *("silences", "channels", "channel_health", "push_subscriptions", "forecasts", "usage_burn"),
    *("usage_samples", "source_signals", "sources", "outages", "delivery_pauses"),
)


@pytest.fixture(scope="module")
def own_database(postgres_18: Cluster) -> Iterator[Database]:
    database = postgres_18.create_database(TEMPLATE)
    yield database
    postgres_18.drop_database(database.name)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hanging() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        receiver.always = Reply(hang=True)
        yield receiver


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ringing(
    hanging: Receiver, own_database: Database, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    """A daemon of which every user's first call rings, over a channel that never answers."""
    channel = {"name": "stuck", "type": "webhook", "url": f"{hanging.origin}/hook"}
    channel["secret"] = "whsec_" + b64encode(bytes(32)).decode()
    config = configure(
        tmp_path_factory.mktemp("ringing"),
        own_database.dsn,
        quotas=[
            {"name": "tiny", "per": ["user"], "limit": 10, "window": "day", "thresholds": [50]}
        ],
        channels=[channel],
    )
    async with serving(config) as client:
        yield client


def calls(user: str) -> list[dict[str, Any]]:
    call = {
        "status": "success",
        "custom_llm_provider": "openai",
        "model": "gpt-5",
        "endTime": datetime.now(UTC).timestamp(),
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "end_user": user,
    }
    return [call | {"litellm_call_id": str(uuid4())} for _ in range(3)]


async def counted(database: Database, user: str) -> int:
    async with connected(database.dsn) as connection:
        found = await connection.fetchval(
            "select count(*) from usage_events where user_id = $1", user
        )
    return int(found)


async def test_an_answer_does_not_wait_for_a_channel(
    ringing: Client, hanging: Receiver, own_database: Database
) -> None:
    async with asyncio.timeout(PATIENCE):
        assert (await ringing.post(LITELLM, json=calls("first"))).json["accepted"] == 3
        await hanging.wait(1)  # the alert is on its way, and gets no answer
        assert (await ringing.post(LITELLM, json=calls("second"))).json["accepted"] == 3
    assert await counted(own_database, "second") == 3


@pytest.mark.parametrize("table", ALERTING)
async def test_an_answer_does_not_wait_for_what_alerts_are_made_of(
    ringing: Client, own_database: Database, table: str
) -> None:
    user = f"beside-{table}"
    async with connected(own_database.dsn) as other:
        async with other.transaction():
            await other.execute(f"lock table {table} in access exclusive mode")
            async with asyncio.timeout(PATIENCE):
                reply = await ringing.post(LITELLM, json=calls(user))
            assert (reply.status, reply.json["accepted"]) == (200, 3)
            assert await counted(own_database, user) == 3  # committed while it is locked


async def test_an_answer_waits_for_its_commit(ringing: Client, own_database: Database) -> None:
    async with connected(own_database.dsn) as other:
        transaction = other.transaction()
        await transaction.start()
        await other.execute("lock table usage_events in share mode")  # read, but not written to
        asked = asyncio.create_task(ringing.post(LITELLM, json=calls("patient")))
        async with asyncio.timeout(PATIENCE):
            while not await waits(own_database):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert not asked.done()
        await transaction.rollback()
        reply = await asked
    assert reply.json["accepted"] == 3
    assert await counted(own_database, "patient") == 3


async def waits(database: Database) -> bool:
    async with connected(database.dsn) as connection:
        return bool(
            await connection.fetchval(
                "select exists (select from pg_locks where not granted"
                " and relation::regclass::text like 'usage_events%')"
            )
        )
