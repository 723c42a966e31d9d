"""Nobody but the owner sees or changes another's rows."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from quotabell.store.migrate import migrate
from tests.support.postgres import TEMPLATE, Connection, Database, connected

READER = "quotabell_reader"
ROWS = """
insert into token_usage (user_id, provider, model, tokens_used, token_limit)
values ('alice', 'openai', 'gpt-5', 1, 10), ('bob', 'openai', 'gpt-5', 2, 10),
    ('', 'openai', 'gpt-5', 3, 10);
insert into token_thresholds (user_id, provider, threshold_percentage)
values ('alice', '*', 50), ('bob', '*', 60), ('', '*', 70);
insert into push_subscriptions (user_id, subscription)
values ('alice', '{"endpoint": "a"}'), ('bob', '{"endpoint": "b"}'), ('', '{"endpoint": "o"}');
insert into notification_history (user_id, title, body)
values ('alice', 't', 'b'), ('bob', 't', 'b'), ('', 't', 'b');
insert into leases (name, holder, expires_at) values ('evaluate', 'me', now());
"""
OWN = ("token_usage", "push_subscriptions", "notification_history", "current_usage",
       "notification_log")  # fmt: skip


@pytest.fixture
async def owner(any_dsn: str) -> AsyncIterator[Connection]:
    async with connected(any_dsn) as connection:
        await connection.execute(ROWS)
        yield connection


@asynccontextmanager
async def acting(
    connection: Connection, user: str | None, role: str = READER
) -> AsyncIterator[Connection]:
    """Inside: a transaction in ``role`` for ``user``; undone at the end."""
    changes = connection.transaction()
    await changes.start()
    try:
        await connection.execute(f"set local role {role}")
        if user is not None:
            claims = json.dumps({"sub": user})
            await connection.execute("select set_config('request.jwt.claims', $1, true)", claims)
        yield connection
    finally:
        await changes.rollback()


async def users(connection: Connection, relation: str) -> set[str]:
    return {row[0] for row in await connection.fetch(f"select user_id from {relation}")}


async def test_the_owner_sees_everything(owner: Connection) -> None:
    assert [await users(owner, name) for name in OWN] == [{"alice", "bob", ""}] * len(OWN)


async def test_a_reader_sees_the_own_rows_in_tables_and_views(owner: Connection) -> None:
    async with acting(owner, "alice") as alice:
        assert [await users(alice, name) for name in OWN] == [{"alice"}] * len(OWN)
        assert await users(alice, "token_thresholds") == {"alice", ""}
        assert await alice.fetchval("select tokens_used from usage_by_provider") == 1


@pytest.mark.parametrize("user", [None, "", "stranger"])
async def test_without_a_known_user_there_are_no_rows(user: str | None, owner: Connection) -> None:
    async with acting(owner, user) as nobody:
        assert [await users(nobody, name) for name in OWN] == [set()] * len(OWN)
        visible = {""} if user == "stranger" else set()
        assert await users(nobody, "token_thresholds") == visible


async def test_claims_end_with_their_transaction(owner: Connection) -> None:
    async with acting(owner, "alice"):
        pass
    async with acting(owner, None) as nobody:
        assert await users(nobody, "token_usage") == set()
    assert await users(owner, "token_usage") == {"alice", "bob", ""}


async def test_interleaved_readers_of_one_pool_see_only_themselves(
    owner: Connection, any_dsn: str
) -> None:
    async def read(pool: Any, user: str) -> tuple[str, set[str]]:
        async with pool.acquire() as connection, acting(connection, user) as reader:
            return user, await users(reader, "token_usage")

    async with asyncpg.create_pool(any_dsn, min_size=1, max_size=4) as pool:
        people = ["alice", "bob", "stranger", ""] * 40
        seen = await asyncio.gather(*(read(pool, user) for user in people))
    assert {(user, *found) for user, found in seen} == {
        ("alice", "alice"), ("bob", "bob"), ("stranger",), ("",)
    }  # fmt: skip


ALLOWED = {
    "own subscription": "insert into push_subscriptions (user_id, subscription)"
    """ values ('alice', '{"endpoint": "new"}')""",
    "own subscription off": "update push_subscriptions set is_active = false",
    "own subscriptions away": "delete from push_subscriptions",
    "own threshold": "insert into token_thresholds (user_id, threshold_percentage)"
    " values ('alice', 80)",
    "own threshold off": "update token_thresholds set is_active = false where user_id = 'alice'",
}
REFUSED = {
    "another's subscription": "insert into push_subscriptions (user_id, subscription)"
    """ values ('bob', '{"endpoint": "new"}')""",
    "subscription of an operator": """insert into push_subscriptions (subscription)
        values ('{"endpoint": "new"}')""",
    "give a subscription away": "update push_subscriptions set user_id = 'bob'",
    "revive what delivery ended": "update push_subscriptions set reason = null",
    "another's threshold": "insert into token_thresholds (user_id, threshold_percentage)"
    " values ('bob', 80)",
    "everybody's threshold": "insert into token_thresholds (threshold_percentage) values (80)",
    "give a threshold away": "update token_thresholds set user_id = '' where user_id = 'alice'",
    "usage": "insert into token_usage (user_id, provider, model, tokens_used)"
    " values ('alice', 'x', 'y', 1)",
    "own usage": "update token_usage set tokens_used = 0",
    "own history": "delete from notification_history",
    "settings": "select * from settings",
    "leases": "select * from leases",
    "migrations": "delete from quotabell_migrations",
    "protection": "select quotabell_protect('token_usage')",
}


@pytest.mark.parametrize("deed", ALLOWED)
async def test_a_user_may_change_what_is_the_users_own(deed: str, owner: Connection) -> None:
    async with acting(owner, "alice") as alice:
        assert (await alice.execute(ALLOWED[deed])).endswith(" 1")


@pytest.mark.parametrize("deed", REFUSED)
async def test_a_user_may_not_change_anything_else(deed: str, owner: Connection) -> None:
    async with acting(owner, "alice") as alice:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await alice.execute(REFUSED[deed])


@pytest.mark.parametrize("statement", [
    "update token_thresholds set is_active = false where user_id in ('bob', '')",
    "delete from token_thresholds where user_id in ('bob', '')",
    "delete from push_subscriptions where user_id in ('bob', '')",
])  # fmt: skip
async def test_the_rows_of_others_are_out_of_reach(statement: str, owner: Connection) -> None:
    async with acting(owner, "alice") as alice:
        assert (await alice.execute(statement)).endswith(" 0")


async def test_every_table_and_function_is_closed_to_the_public(any_dsn: str) -> None:
    """Whatever later migrations add."""
    async with connected(any_dsn) as connection:
        open_tables = await connection.fetch(
            "select relname from pg_class where relnamespace = 'public'::regnamespace"
            " and relkind in ('r', 'p') and not relrowsecurity"
        )
        leaky_views = await connection.fetch(
            "select relname from pg_class where relnamespace = 'public'::regnamespace"
            " and relkind = 'v' and not coalesce(reloptions @> '{security_invoker=true}', false)"
        )
        public_functions = await connection.fetch(
            "select p.oid::regprocedure from pg_proc p,"
            " aclexplode(coalesce(proacl, acldefault('f', proowner))) a"
            " where pronamespace = 'public'::regnamespace and a.grantee = 0"
        )
        unfixed = await connection.fetch(
            "select oid::regprocedure from pg_proc where pronamespace = 'public'::regnamespace"
            " and prosecdef and coalesce(array_to_string(proconfig, ' '), '') !~ 'search_path='"
        )
    assert [*open_tables, *leaky_views, *public_functions, *unfixed] == []


async def test_hosted_roles_may_do_what_the_reader_may(hosted: Database) -> None:
    await migrate(hosted.dsn)
    async with connected(hosted.admin_dsn) as connection:
        await connection.execute(ROWS)
        async with acting(connection, "alice", "authenticated") as alice:
            assert [await users(alice, name) for name in OWN] == [{"alice"}] * len(OWN)
            for deed in ("own subscription", "own threshold"):
                assert (await alice.execute(ALLOWED[deed])).endswith(" 1")
        for role, statement in (
            ("authenticated", REFUSED["own usage"]),
            ("authenticated", REFUSED["settings"]),
            ("anon", "select * from token_usage"),
            ("anon", "select * from current_usage"),
            ("anon", "select quotabell_subject()"),
            ("service_role", "select * from settings"),
        ):
            async with acting(connection, "alice", role) as guest:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await guest.execute(statement)
        async with acting(connection, None, "service_role") as service:
            assert await users(service, "token_usage") == {"alice", "bob", ""}
            assert await service.execute(REFUSED["usage"]) == "INSERT 0 1"


async def test_hosted_roles_that_come_later_are_let_in_by_protecting_again(
    hosted: Database,
) -> None:
    late = hosted.cluster.create_database(TEMPLATE)  # migrated while they did not exist
    try:
        async with connected(late.admin_dsn) as connection:
            await connection.execute(ROWS)
            await connection.execute("alter role service_role nobypassrls")
            await connection.execute(
                "set role quotabell;"
                "select quotabell_protect('token_usage', 'quotabell_subject()');"
                "select quotabell_protect('token_usage'); reset role"
            )
            async with acting(connection, "bob", "authenticated") as bob:
                assert await users(bob, "token_usage") == {"bob"}
            async with acting(connection, None, "service_role") as service:
                assert await users(service, "token_usage") == {"alice", "bob", ""}
            await connection.execute("alter role service_role bypassrls")
    finally:
        hosted.cluster.drop_database(late.name)


async def test_protecting_what_is_not_there_is_an_error(dsn: str) -> None:
    async with connected(dsn) as connection:
        for name in ("token_usages", "quotabell_ringing()"):
            with pytest.raises(asyncpg.PostgresError, match="does not exist"):
                await connection.execute(f"select quotabell_protect('{name}')")
