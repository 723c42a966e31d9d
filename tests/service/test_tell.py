"""Messages are put into words before they go: of what the database knows, for who reads them."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quotabell import log
from quotabell.domain.facts import AUDIENCES
from quotabell.service.tell import Teller
from quotabell.store.telling import TellingStore
from tests.http.client import serving
from tests.http.test_bell import sections, subscribe
from tests.store.test_quotas import Replica, replica, today
from tests.support.daemon import configure
from tests.support.outbox import outbox
from tests.support.postgres import connected
from tests.support.pushservice import PushService
from tests.support.waiting import eventually

TEAM = {
    "name": "team",
    "limit": 1_000,
    "window": "day",
    "timezone": "Asia/Tokyo",
    "match": {"provider": "openai"},
    "thresholds": [90],
    "notify": ["operators", "everyone"],
}


@dataclass(slots=True)
class Told:
    """A replica that puts its messages into words."""

    replica: Replica
    teller: Teller
    log: io.StringIO

    async def use(self, user: str, tokens: int, model: str = "gpt-5", **more: Any) -> None:
        more = {"input": tokens, "output": 0, "user_id": user, "model": model} | more
        await self.replica.report(today(**more))

    async def words(self) -> list[dict[str, list[str]]]:
        """Those of all messages, after one turn."""
        await self.teller.tell(50)
        rows = await self.replica.database.fetch(
            "select title, body, data from notification_history order by created_at, title"
        )
        return [json.loads(row["data"]).get("words", {}) for row in rows]


@contextlib.asynccontextmanager
async def telling(dsn: str, *quotas: dict[str, Any]) -> AsyncIterator[Told]:
    stream = io.StringIO()
    logger = log.configure("info", stream=stream).get_logger()
    async with replica(dsn) as it:
        await it.configure(*quotas)
        await it.follow()
        store = TellingStore(it.database)
        yield Told(it, Teller(store, logger, "http://quotabell.example:3001"), stream)


async def test_a_shared_quota_tells_operators_of_users_and_others_of_models(any_dsn: str) -> None:
    async with telling(any_dsn, TEAM) as it:
        await it.use("bob", 300, "o4")
        await it.use("zoe", 5_000, provider="anthropic")
        await it.use("alice", 620)

        [told] = await it.words()

    title, body, text = told["operators"]
    assert title == "team, openai is at 92 %"
    assert body.startswith("920 of 1,000 tokens, resets in ")
    assert body.endswith(", most by alice 67 %")
    assert "Most in the last hour: alice 67 %, bob 32 %." in text
    assert " Asia/Tokyo." in text
    assert "Acknowledge or silence it: http://quotabell.example:3001/?state=" in text
    for audience in ("owner", "others"):
        assert "Most in the last hour: gpt-5 67 %, o4 32 %." in told[audience][2]
        assert not {"alice", "bob"} & {*json.dumps(told[audience]).replace(",", "").split()}


async def test_contributors_count_as_the_quota_weighs_them(any_dsn: str) -> None:
    weights = {"output": 10, "request": 5}
    async with telling(any_dsn, TEAM | {"weights": weights}) as it:
        await it.use("alice", 400)
        await it.use("bob", 85, output=50)

        [told] = await it.words()

    assert "bob 59 %, alice 40 %" in told["operators"][2]


async def test_a_user_s_own_quota_tells_of_that_user_s_models_only(any_dsn: str) -> None:
    async with telling(any_dsn, TEAM | {"per": ["user"]}) as it:
        await it.use("bob", 700, "o4")
        await it.use("alice", 600)
        await it.use("alice", 300, "gpt-5-mini")

        [told] = await it.words()

    assert "gpt-5 66 %, gpt-5-mini 33 %" in told["owner"][2]
    assert "900 of 1,000 tokens by alice" in told["operators"][1]
    for audience in AUDIENCES:
        assert "bob" not in json.dumps(told[audience])
        assert "o4" not in json.dumps(told[audience])


async def test_a_message_is_told_in_time_without_contributors_that_take_too_long(
    any_dsn: str,
) -> None:
    async with telling(any_dsn, TEAM) as it, connected(any_dsn) as other:
        await it.use("alice", 920)
        async with other.transaction():
            await other.execute("lock table usage_events")

            [told] = await it.words()

    assert told["operators"][1].startswith("920 of 1,000 tokens, resets in ")
    assert "alice" not in json.dumps(told)
    assert "messages name no contributors" in it.log.getvalue()


async def test_a_message_is_told_without_contributors_that_cannot_be_found(any_dsn: str) -> None:
    async with telling(any_dsn, TEAM) as it:
        await it.use("alice", 920)
        await it.replica.database.execute("drop function quotabell_lately")

        [told] = await it.words()

    assert told["operators"][1].startswith("920 of 1,000 tokens, resets in ")
    assert "messages name no contributors" in it.log.getvalue()


async def test_facts_that_are_none_cost_only_their_own_message_its_words(any_dsn: str) -> None:
    async with telling(any_dsn, TEAM | {"per": ["model"]}) as it:
        await it.use("alice", 920, "a")
        await it.use("alice", 930, "b")
        await it.replica.database.execute(
            'update notification_history set data = \'{"tokensUsed": "many", "provider": 5}\' '
            "where data ->> 'model' = 'a'"
        )

        plain, told = await it.words()

    assert plain == {}
    assert told["operators"][0] == "team, openai / b is at 93 %"


async def test_what_is_looked_through_for_contributors_has_a_bound(any_dsn: str) -> None:
    async with telling(any_dsn, TEAM) as it:
        await it.use("early", 100)
        await it.replica.database.execute(
            "insert into usage_events "
            "(source, event_id, day, time, user_id, provider, model, input) "
            "select 'x', n::text, (now() at time zone 'UTC')::date, now() - interval '1 s', "
            "'late', 'openai', 'gpt-5', 1 from generate_series(1, 30000) n"
        )
        await it.use("alice", 850)

        found = await it.teller.store.lately([], everybody=True)

    users = {used.user: used for used in found}
    assert users.keys() == {"late", "alice"}
    assert users["alice"].seconds < 3600
    assert 1_000 < users["late"].requests < 30_000


async def test_each_browser_is_told_what_its_user_may_know(dsn: str, tmp_path: Path) -> None:
    async with PushService() as push, outbox(dsn) as box:
        config = configure(tmp_path, dsn, **sections(push, quotas=[TEAM]))
        async with serving(config) as client:
            operator = await subscribe(client, push)
            carol = await subscribe(client, push, "carol")
            calls = [("bob", "o4", 300), ("alice", "gpt-5", 620)]
            for user, model, tokens in calls:
                body = {"provider": "openai", "model": model, "userId": user}
                body |= {"inputTokens": tokens}
                answer = await client.post("/api/token-monitor/events", json=body)
                assert answer.status == 200
            await push.wait(2)
            await eventually(box.closed)
            [entry] = (await client.get("/api/push/history")).json["items"]

        [to_operator], [to_carol] = push.of(operator), push.of(carol)
    assert to_operator.message["body"].endswith(", most by alice 67 %")
    assert to_carol.message["body"].endswith(", most by gpt-5 67 %")
    assert to_carol.message["title"] == "team, openai is at 92 %"
    assert entry["body"] == to_operator.message["body"]
