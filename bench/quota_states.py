"""A daemon with many quota states, and events for them."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.drills.ground import rows
from tests.support import daemon
from tests.support.daemon import DaemonProcess
from tests.support.postgres import Database
from tests.support.waiting import eventually

from bench.ground import TOKEN

LIMIT = 10**12
USERS = {"name": "users", "limit": LIMIT, "window": "week", "per": ["user"]}
ALL = {"name": "all", "limit": LIMIT, "window": "month", "weights": {"cache_read": 0.1}}
EVENTS = "/api/token-monitor/events"

# As if each of them had used something, long enough ago that it was sampled.
_STATES = """
insert into token_usage (
    user_id, quota, provider, model, period_start, period_end, tokens_used, token_limit,
    generation, alert_at)
select 'user-' || lpad(n::text, 7, '0'), q.name, '*', '*', p.period_start, p.period_end, 1000,
    {limit}, q.generation, 75
from quotas q join quota_periods p on p.quota = q.name, generate_series(0, {states} - 1) n
where q.name = 'users' and p.period_start <= now() and now() < p.period_end;
insert into token_totals (user_id, provider, model, input, shown_input, requests)
select 'user-' || lpad(n::text, 7, '0'), 'openai', 'gpt-' || n % 10, 1000, 1000, 1
from generate_series(0, {states} - 1) n;
insert into usage_burn (state_id, sampled_at, used, lim, burn)
select id, now(), tokens_used, token_limit, 0 from token_usage where quota = 'users';
"""


def configure(folder: Path, database: Database, *quotas: dict[str, Any]) -> Path:
    """The file of a daemon that asks for `TOKEN`; it may be written again."""
    token = {"name": "bench", "token": TOKEN, "scopes": ["admin", "ingest", "metrics"]}
    return daemon.write_config(
        folder, database.dsn, auth={"tokens": [token]}, quotas=list(quotas or (USERS, ALL))
    )


@contextlib.asynccontextmanager
async def with_states(
    folder: Path, database: Database, states: int
) -> AsyncIterator[DaemonProcess]:
    """A daemon whose quota `USERS` has so many states."""
    async with daemon.process(configure(folder, database)) as process:
        try:
            await eventually(lambda: ready(database), timeout=30)
            await rows_of_script(database, _STATES.format(states=states, limit=LIMIT))
            yield process
            process.send(signal.SIGCONT)
            assert await process.end() == 0
        except BaseException:
            print(process.log_file.read_text()[-3000:], file=sys.stderr)
            raise


async def rows_of_script(database: Database, script: str) -> None:
    """Run statements one after the other, then have the tables ready to use."""
    for statement in [*script.split(";"), "vacuum analyze"]:
        if statement.strip():
            await rows(database, statement)


async def ready(database: Database) -> bool:
    """Whether all states follow their quotas."""
    return not await rows(database, "select from quotas where phase <> 'ready'")


def event(user: int, **more: Any) -> dict[str, Any]:
    """An event of one user, without an id."""
    return {
        "time": datetime.now(UTC).isoformat(),
        "provider": "openai",
        "model": f"gpt-{user % 10}",
        "userId": f"user-{user:07}",
        "inputTokens": 120,
        "cacheReadTokens": 900,
        "outputTokens": 40,
        **more,
    }


def bodies(users: int, items: int, count: int) -> list[bytes]:
    """Arrays of events of users at random, each user once in an array."""
    chance = random.Random(users)
    return [
        json.dumps([event(n) for n in chance.sample(range(users), items)]).encode()
        for _ in range(count)
    ]
