"""A person is removed from everywhere, or shown, by a command beside a running daemon."""

from __future__ import annotations

import asyncio
import json
import os
import pty
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from quotabell.config import load
from quotabell.domain.digest import compose
from quotabell.store import people
from tests.process.program import Done, quotabell_begun
from tests.process.terminal import command
from tests.support import daemon
from tests.support.postgres import Database
from tests.support.waiting import eventually

API = "/api/token-monitor"
QUOTAS = [
    {"name": "daily", "limit": 1_000, "window": "day", "per": ["user"]},
    {"name": "team", "limit": 100_000, "window": "week"},
]
TOKENS = [
    {"name": "alice-laptop", "token": "token-of-alice-alone", "scopes": ["ingest"]}
    | {"user": "alice"},
    {"name": "ops", "token": "token-of-the-operator", "scopes": ["admin"]},
]
KEPT = (
    *("usage_events", "token_totals", "token_usage", "usage_periods", "push_subscriptions"),
    *("token_thresholds", "silences"),
)
EVERY_TABLE = """
    select c.oid::regclass::text from pg_class c
    where c.relnamespace in ('public'::regnamespace, 'quotabell_parts'::regnamespace)
        and c.relkind in ('r', 'p') order by 1
"""


class Office:
    """A daemon that knows alice and bob by all ways there are."""

    def __init__(self, url: str, config: Path, connection: asyncpg.Connection[Any]) -> None:
        self.url = url
        self.config = config
        self.connection = connection

    async def post(self, path: str, body: Any, token: str = "token-of-the-operator") -> None:
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.post(self.url + path, json=body) as reply:
                assert reply.status in (200, 201), await reply.text()

    async def metrics(self) -> list[str]:
        headers = {"Authorization": "Bearer token-of-the-operator"}
        async with aiohttp.ClientSession(headers=headers) as session:
            async with session.get(self.url + "/metrics") as reply:
                return (await reply.text()).splitlines()

    async def naming(self, name: str) -> dict[str, int]:
        """The tables with rows that hold a name anywhere."""
        found = {}
        for row in await self.connection.fetch(EVERY_TABLE):
            count = await self.connection.fetchval(
                f"select count(*) from {row[0]} t where t::text like $1", f"%{name}%"
            )
            if count:
                found[row[0].removeprefix("quotabell_parts.").rstrip("0123456789_")] = count
        return found

    async def run(self, *arguments: str) -> Done:
        return await command(arguments[0], "--config", self.config, *arguments[1:])


@pytest.fixture
async def office(database: Database, tmp_path: Path) -> AsyncIterator[Office]:
    path = daemon.write_config(tmp_path, database.tcp_dsn, quotas=QUOTAS, auth={"tokens": TOKENS})
    async with daemon.running(load(path, {})) as running:
        connection = await asyncpg.connect(database.dsn)
        try:
            office = Office(running.url, path, connection)
            for user in ("alice", "bob"):
                await _live(office, user)
            yield office
        finally:
            await connection.close()


async def _live(office: Office, user: str) -> None:
    now = datetime.now(UTC)
    call = {"provider": "openai", "model": "gpt-5", "userId": user, "inputTokens": 50}
    times = [now - timedelta(days=n / 4, seconds=1) for n in range(20)]
    await office.post(f"{API}/events", [call | {"time": t.isoformat()} for t in times])
    snapshot = {"provider": "grok", "model": "grok-4", "tokensUsed": 91, "tokenLimit": 100}
    await office.post(f"{API}/update", snapshot | {"userId": user})
    threshold = {"userId": user, "thresholdPercentage": 66}
    await office.post(f"{API}/thresholds", threshold)
    ends = (now + timedelta(hours=1)).isoformat()
    silence = {"matchers": {"userId": user}, "endsAt": ends, "reason": "away"}
    await office.post(f"{API}/silences", silence)
    subscription = {"endpoint": f"https://push.example/{user}-canary-secret"}
    await office.post("/api/push/subscribe", {"userId": user, "subscription": subscription})
    if user == "alice":
        await office.post(
            f"{API}/events",
            call | {"id": "own"} | {"time": now.isoformat()},
            token="token-of-alice-alone",
        )
        await office.connection.execute(
            "insert into series_marks (source, series_key, start_time, last_value, last_time) "
            "values ('alice-laptop/cli', 'input', now(), 5, now())"
        )
        await eventually(lambda: _known(office, "sources"))
        await office.connection.execute(
            "insert into alerts (state_id, kind, subject, quota, provider, model, level, "
            "tokens_used) select gen_random_uuid(), 'stale', name, '', '', '', 0, 0 from sources "
            "where user_id = 'alice'"
        )
        await office.connection.execute(
            "insert into notification_history (kind, title, body, data, status) select 'stale', "
            "name, name, jsonb_build_object('subject', name), 'sent' from sources "
            "where user_id = 'alice'"
        )
        # What several share says who used most of it, to operators.
        words = json.dumps({"operators": ["", "alice 62 %, bob 30 %", "\u2068alice\u2069 62 %"]})
        await office.connection.execute(
            "insert into notification_history (title, body, data, status) values ('team is at "
            "90 %', 'Most lately: alice 62 %, alicia 8 %', "
            "jsonb_build_object('words', $1::jsonb), 'sent')",
            words,
        )
        await _digest(office)
    await office.connection.execute(
        "select quotabell_keep_parts('usage_periods', 'month', '2026-01-01', '2026-01-31')"
    )
    await office.connection.execute(
        "insert into usage_periods (user_id, quota, provider, model, period_start, period_end, "
        "tokens_used, reported_at) values ($1, 'daily', '*', '*', '2026-01-05', '2026-01-06', 7, "
        "'2026-01-05')",
        user,
    )


async def _digest(office: Office) -> None:
    """What operators are told of many alerts at once."""
    worst = [
        {"userId": user, "quota": "daily", "provider": "*", "model": "*", "percentage": 99.5}
        for user in ("alice", "bob", "carol")
    ]
    told = compose("threshold", ends=False, number=3, worst=worst)
    await office.connection.execute(
        "insert into notification_history (title, body, data, status) "
        "values ('digest', $1, $2::jsonb, 'sent')",
        told.body,
        json.dumps(told.data),
    )


async def _known(office: Office, table: str) -> bool:
    return bool(
        await office.connection.fetchval(f"select count(*) from {table} where user_id = 'alice'")
    )


async def test_nothing_is_left_of_a_person_and_everything_of_the_others(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_ROWS", 3), ("_STATES", 1), ("_PAGES", 1)):
        monkeypatch.setattr(people, name, value)  # so that nothing is done in one go
    assert any('user="alice"' in line for line in await office.metrics())
    before, bobs = await office.naming("alice"), await office.naming("bob")
    totals = "select to_jsonb(t)::text from token_totals t where user_id = 'bob'"
    sums = await office.connection.fetch(totals)
    told_bob = "select count(*) from notification_history where user_id = 'bob'"
    messages = await office.connection.fetchval(told_bob)
    shown = [line for line in await office.metrics() if 'user="bob"' in line]
    assert {"usage_events", "token_usage", "usage_periods", "push_subscriptions", "silences"} | {
        *("token_thresholds", "alerts", "notification_history", "token_totals", "series_marks")
    } <= before.keys()

    done = await office.run("forget", "alice", "--yes")

    assert (done.code, done.err) == (0, "")
    assert "usage_events: 21 removed" in done.out
    assert "team: count several people" in done.out
    assert "notification_history (a name in it): 2 removed" in done.out
    assert await office.naming("alice") == {}
    after = await office.naming("bob")
    assert {table: after.get(table) for table in KEPT} == {table: bobs[table] for table in KEPT}
    assert await office.connection.fetchval(told_bob) == messages > 0
    assert await office.connection.fetch(totals) == sums

    async def dropped() -> bool:
        lines = await office.metrics()
        counters = [line for line in shown if line.startswith("quotabell_tokens_total")]
        assert counters
        return not any('user="alice"' in line for line in lines) and set(counters) <= set(lines)

    await eventually(dropped)
    told = await office.connection.fetchrow(
        "select title, body, data::text from notification_history where title = 'team is at 90 %'"
    )
    assert told is not None
    assert told["body"] == "Most lately: somebody 62 %, alicia 8 %"
    assert "somebody 62 %, bob 30 %" in told["data"]
    told = await office.connection.fetchrow(
        "select body, data::text from notification_history where title = 'digest'"
    )
    assert told is not None
    assert told["body"] == "somebody daily 99 %, bob daily 99 %, carol daily 99 %"
    members = [member["userId"] for member in json.loads(told["data"])["members"]]
    assert members == [None, "bob", "carol"]
    again = await office.run("forget", "alice", "--yes")
    assert (again.code, "nothing was known" in again.out) == (0, True)


async def test_an_export_holds_everything_but_what_reaches_a_browser(office: Office) -> None:
    done = await office.run("export", "alice")

    assert (done.code, done.err) == (0, "")
    head, *lines = [json.loads(line) for line in done.out.splitlines()]
    assert head["user"] == "alice"
    rows: dict[str, list[Any]] = {}
    for line in lines:
        rows.setdefault(line["table"], []).append(line["row"])
    assert len(rows["usage_events"]) == 21
    assert sum(event["input"] for event in rows["usage_events"]) == 21 * 50
    assert rows["push_subscriptions"][0]["origin"] == "https://push.example"
    known = (await office.naming("alice")).keys() - {"deliveries", "attempts", "series_marks"}
    assert known - rows.keys() == set()
    assert "canary" not in done.out
    assert "bob" not in done.out


async def test_forgetting_asks_first(office: Office) -> None:
    before = await office.naming("alice")
    refused = await office.run("forget", "alice")
    assert refused.code == 1
    assert "--yes" in refused.err
    ours, theirs = pty.openpty()
    try:
        async with quotabell_begun(
            "forget", "--config", office.config, "alice", stdin=theirs
        ) as process:
            os.write(ours, b"n\n")
            out, _ = await asyncio.wait_for(process.communicate(), 20)
    finally:
        os.close(ours)
        os.close(theirs)

    assert process.returncode == 1
    assert b"Remove all that is known of alice" in out
    after = await office.naming("alice")
    assert {table: after.get(table) for table in KEPT} == {table: before[table] for table in KEPT}
    assert (await office.run("forget", "")).code == 65
