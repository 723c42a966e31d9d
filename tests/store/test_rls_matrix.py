"""Who may do what: every role × every table, view and partition × every deed, really tried.

The owners of rows are told apart by how many rows each has: what a role sees or changes is a
number that can be made up in one way only.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import combinations
from typing import Literal

import asyncpg
import pytest

from quotabell import log
from quotabell.store import database as store
from quotabell.store.migrate import migrate
from quotabell.store.partitions import Partitions
from tests.support.postgres import Connection, Database, connected

HAS = {"A": 1, "B": 2, "*": 4}  # rows of alice, of bob, and of nobody or everybody
NAMES = {"A": "alice", "B": "bob", "*": ""}
DENIED = "denied"
PARTED: dict[str, Literal["day", "month"]] = {
    "usage_events": "day",
    "usage_samples": "month",
    "usage_periods": "month",
}

ROLES = {
    "owner": ("quotabell", None),
    "service_role": ("service_role", None),
    "alice": ("authenticated", {"sub": "alice", "role": "authenticated"}),
    "bob": ("authenticated", {"sub": "bob", "role": "authenticated"}),
    "empty sub": ("authenticated", {"sub": ""}),
    "no sub": ("authenticated", {"role": "authenticated"}),
    "no claims": ("authenticated", None),
    "anon": ("anon", None),
    "anon as alice": ("anon", {"sub": "alice"}),
    "reader alice": ("quotabell_reader", {"sub": "alice"}),
    "reader nobody": ("quotabell_reader", None),
}

# Rows that are seen: by alice, by bob, and by those of whom no user is known. Everything else
# that is not the owner's or service_role's is denied.
READ = {
    "active_alerts": "A B -",
    "alerts": "A B -",
    "attempts": "A B -",
    "current_usage": "A B -",
    "deliveries": "A B -",
    "digest_members": "A B -",
    "notification_history": "A B -",
    "notification_log": "A B -",
    "push_subscriptions": "A B -",
    "quota_periods": "AB* AB* -",
    "silences": "A B -",
    "sources": "A B -",
    "token_thresholds": "A* B* -",
    "token_totals": "A B -",
    "token_usage": "A B -",
    "usage_burn": "A B -",
    "usage_by_provider": "A B -",
    "usage_events": "A B -",
    "usage_periods": "A B -",
    "usage_samples": "A B -",
}
# What is changed by a statement without a condition.
CHANGED = {
    "update": {"push_subscriptions": "A B -", "token_thresholds": "A B -"},
    "delete": {"push_subscriptions": "A B -", "token_thresholds": "A B -"},
}
# A row of alice's, then one of bob's, then one that is everybody's.
ADDED = {
    "push_subscriptions": '(user_id, subscription) values ($1, \'{"endpoint": "new"}\')',
    "token_thresholds": "(user_id, threshold_percentage) values ($1, 80)",
}
MAY_ADD = {"alice": "A", "bob": "B", "reader alice": "A", "owner": "AB*", "service_role": "AB*"}
# As many times $2 as the owner has rows; $3 tells rows apart.
ROWS = """
insert into token_usage (id, user_id, provider, model, tokens_used, token_limit)
    select md5($1 || n)::uuid, $1, 'p-' || n || $1, 'm', 1, 10 from generate_series(1, $2) n;
insert into token_thresholds (user_id, provider, threshold_percentage)
    select $1, 'p-' || n, 50 from generate_series(1, $2) n;
insert into push_subscriptions (user_id, subscription)
    select $1, jsonb_build_object('endpoint', $1 || n) from generate_series(1, $2) n;
insert into silences (user_id, matchers, ends_at, author, reason)
    select $1, '{}', now() + interval '1 hour', $1, 'test' from generate_series(1, $2) n;
insert into sources (name, user_id, kind)
    select $1 || n, $1, 'update' from generate_series(1, $2) n;
insert into token_totals (user_id, provider, model)
    select $1, 'p-' || n, 'm' from generate_series(1, $2) n;
insert into usage_events (source, event_id, day, time, user_id, provider, model)
    select 'local/', $1 || n, (now() at time zone 'UTC')::date, now(), $1, 'p', 'm'
    from generate_series(1, $2) n;
insert into usage_samples (state_id, time, used)
    select md5($1 || n)::uuid, now(), 1 from generate_series(1, $2) n;
insert into usage_burn (state_id, sampled_at, used)
    select md5($1 || n)::uuid, now(), 1 from generate_series(1, $2) n;
insert into usage_periods (user_id, quota, provider, model, period_start, period_end, tokens_used,
        reported_at)
    select $1, 'q', 'p-' || n, 'm', now(), now(), 1, now() from generate_series(1, $2) n;
insert into alerts (state_id, user_id, quota, provider, model, level, tokens_used)
    select md5($1 || n)::uuid, $1, 'reported', 'p', 'm', 75, 8 from generate_series(1, $2) n;
insert into notification_history (id, user_id, title, body)
    select md5($1 || n)::uuid, $1, 't', 'b' from generate_series(1, $2) n;
insert into deliveries (notification_id, channel, target, origin, expires_at)
    select md5($1 || n)::uuid, 'webpush', md5($1 || n)::uuid::text, 'o', now()
    from generate_series(1, $2) n;
insert into digests (id, kind, ends, held, closes_at)
    select md5($1 || 1)::uuid, 'threshold', false, false, now() where $2 > 0;
insert into digest_members (digest, notification, state_id, kind, place)
    select md5($1 || 1)::uuid, md5($1 || n)::uuid, md5($1 || n)::uuid, 'threshold', 1
    from generate_series(1, $2) n;
insert into attempts (delivery_id, n, fence, worker)
    select d.id, 1, 1, 'w' from deliveries d join notification_history h on h.id = notification_id
    where h.user_id = $1 and $2 > 0;
"""
OTHERS = """
insert into quotas (name, definition, fingerprint, notify, generation, counted_from, defined_from,
        phase)
    values ('q', '{}', '', '{}', 1, now(), now(), 'ready');
insert into quota_periods (quota, period_start, period_end, continues)
    select 'q', now() + n * interval '1 day', now() + (n + 1) * interval '1 day', true
    from generate_series(1, 7) n;
"""


@pytest.fixture
async def superuser(hosted: Database) -> AsyncIterator[Connection]:
    await migrate(hosted.dsn)
    logger = log.configure("error").get_logger()
    daemon = store.Database(hosted.dsn, pool_size=1, prepared_statements=True, log=logger)
    await daemon.open()
    today = datetime.now(UTC).date()
    for table, every in PARTED.items():
        await Partitions(daemon, table, every).keep(today, today)
    await daemon.close()
    async with connected(hosted.admin_dsn) as connection:
        for letter, name in NAMES.items():
            for statement in ROWS.split(";\n")[:-1]:
                wanted = [name, HAS[letter]]
                kinds = await connection.prepare(statement)
                await connection.execute(statement, *wanted[: len(kinds.get_parameters())])
        for statement in OTHERS.split(";\n")[:-1]:
            await connection.execute(statement)
        yield connection


@asynccontextmanager
async def acting(connection: Connection, name: str) -> AsyncIterator[None]:
    """Inside: a transaction in a role with claims, as a request of Supabase's is; undone."""
    role, claims = ROLES[name]
    changes = connection.transaction()
    await changes.start()
    try:
        await connection.execute(f"set local role {role}")
        if claims is not None:
            text = json.dumps(claims)
            await connection.execute("select set_config('request.jwt.claims', $1, true)", text)
        yield
    finally:
        await changes.rollback()


async def relations(connection: Connection) -> list[str]:
    """Tables, views and partitions of ours, as they are written."""
    rows = await connection.fetch(
        "select case when n.nspname = 'public' then relname else 'quotabell_parts.' || relname end"
        " from pg_class c join pg_namespace n on n.oid = relnamespace"
        " where n.nspname in ('public', 'quotabell_parts') and relkind in ('r', 'p', 'v', 'm')"
        " order by 1"
    )
    return [row[0] for row in rows]


def whose(count: int) -> str:
    """The owners whose rows add up to ``count``."""
    for size in range(len(HAS) + 1):
        for letters in combinations(HAS, size):
            if sum(HAS[letter] for letter in letters) == count:
                return "".join(letters) or "-"
    return "all" if count else "-"


def expected(table: dict[str, str], relation: str, role: str) -> str:
    """What a cell of the matrix says, for all roles but the owner and service_role."""
    if relation not in table or role.startswith("anon"):
        return DENIED
    alice, bob, unknown = table[relation].split()
    return {"alice": alice, "reader alice": alice, "bob": bob}.get(role, unknown)


async def tried(connection: Connection, role: str, statement: str, *arguments: str) -> str:
    """Whose rows a statement of a role returned or changed; ``denied``."""
    async with acting(connection, role):
        try:
            if statement.startswith("select"):
                return whose(len(await connection.fetch(statement)))
            status = await connection.execute(statement, *arguments)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.ObjectNotInPrerequisiteStateError):
            return DENIED  # the second: of a view that nobody can write to
        except asyncpg.PostgresError as error:
            return type(error).__name__
    return whose(int(status.split()[-1]))


def strangers() -> Iterator[str]:
    return (role for role in ROLES if role not in ("owner", "service_role"))


async def test_who_reads_what(superuser: Connection) -> None:
    known = await relations(superuser)
    found = {
        (relation, role): await tried(superuser, role, f"select from {relation}")
        for relation in known
        for role in strangers()
    }
    wanted = {cell: expected(READ, *cell) for cell in found}
    assert {cell: found[cell] for cell in found if found[cell] != wanted[cell]} == {}
    assert set(READ) <= set(known)
    assert sum(name.startswith("quotabell_parts.") for name in known) >= 3


async def test_the_owner_and_the_service_read_everything(superuser: Connection) -> None:
    for relation in READ:
        for role in ("owner", "service_role"):
            assert await tried(superuser, role, f"select from {relation}") == "AB*", relation


@pytest.mark.parametrize("deed", ["update", "delete"])
async def test_who_changes_what(deed: str, superuser: Connection) -> None:
    columns = {
        row["relation"]: row["column"]
        for row in await superuser.fetch(
            "select attrelid::regclass::text as relation, min(quote_ident(attname)) as column"
            " from pg_attribute where attnum > 0 and not attisdropped and attgenerated = ''"
            " and attidentity = '' group by 1"
        )
    } | {"push_subscriptions": "is_active", "token_thresholds": "is_active"}
    found = {}
    for relation in await relations(superuser):
        column = columns[relation]
        text = {
            "update": f"update {relation} set {column} = {column}",
            "delete": f"delete from {relation}",
        }[deed]
        for role in strangers():
            found[relation, role] = await tried(superuser, role, text)
    wanted = {cell: expected(CHANGED[deed], *cell) for cell in found}
    assert {cell: found[cell] for cell in found if found[cell] != wanted[cell]} == {}


async def test_who_adds_what(superuser: Connection) -> None:
    """Where a role may insert at all, an empty row would fail for another reason."""
    found = {}
    for relation in await relations(superuser):
        text = ADDED.get(relation, "default values")
        for role in ROLES if relation in ADDED else strangers():
            for letter, name in NAMES.items():
                arguments = [name] if relation in ADDED else []
                said = await tried(superuser, role, f"insert into {relation} {text}", *arguments)
                found[relation, role, letter] = said
    wanted = {
        (relation, role, letter): "A"  # one row
        if relation in ADDED and letter in MAY_ADD.get(role, "")
        else DENIED
        for relation, role, letter in found
    }
    assert {cell: found[cell] for cell in found if found[cell] != wanted[cell]} == {}
