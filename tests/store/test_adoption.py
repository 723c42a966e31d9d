"""Taking over the tables of the older service, whatever they look like."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest

from quotabell.errors import MigrationFailed
from quotabell.store.migrate import migrate
from tests.support.catalog import catalog
from tests.support.databases import fresh
from tests.support.postgres import (
    OWNER,
    Connection,
    Database,
    connected,
    in_thread,
)

ALICE = "a1000000-0000-4000-8000-000000000001"
BOB = "b0000000-0000-4000-8000-000000000002"
TABLES = ("token_usage", "token_thresholds", "push_subscriptions", "notification_history")

# Other ways in which people have set up these tables; each is applied to the original's.
VARIANTS = {
    "plain percentage, text users, no uniqueness": """
        alter table token_usage drop constraint token_usage_user_id_provider_model_key,
            drop column percentage, add column percentage real not null default 0;
        alter table token_usage drop constraint token_usage_user_id_fkey;
        drop policy "Users can view their own token usage" on token_usage;
        alter table token_usage alter column user_id type varchar(255);
    """,
    "numbers as ids": """
        alter table notification_history drop constraint notification_history_subscription_id_fkey,
            drop column subscription_id;
        alter table push_subscriptions drop column id;
        alter table push_subscriptions add column id bigserial primary key;
        alter table token_thresholds drop constraint token_thresholds_pkey;
        alter table token_thresholds alter column id drop default,
            alter column id type text using 'threshold ' || id;
    """,
    "a composite primary key, no id": """
        alter table token_usage drop constraint token_usage_user_id_fkey;
        update token_usage set user_id = coalesce(user_id, gen_random_uuid());
        alter table token_usage drop column id,
            drop constraint token_usage_user_id_provider_model_key,
            add primary key (user_id, provider, model);
    """,
    "timestamps without zone, and none at all": """
        alter table token_usage alter column updated_at type timestamp,
            drop column created_at, drop column timestamp;
        alter table notification_history alter column created_at type text,
            alter column sent_at type timestamp, drop column status;
    """,
    "JSON as text, other numbers, an enum": """
        create type status as enum ('pending', 'sent', 'failed');
        drop index idx_push_subscriptions_endpoint;
        alter table push_subscriptions alter column subscription type text;
        insert into push_subscriptions (subscription) values ('nonsense');
        alter table token_thresholds drop constraint token_thresholds_threshold_percentage_check,
            alter column threshold_percentage type numeric, alter column provider drop not null,
            alter column threshold_percentage drop not null;
        insert into token_thresholds (provider, threshold_percentage)
        values (null, 'NaN'), ('w', null), ('x', 0), ('y', 5000), ('z', 99.5);
        alter table token_usage drop column percentage, alter column tokens_used type float8,
            alter column token_limit type numeric, alter column token_limit drop not null,
            alter column model type text, alter column model drop not null;
        insert into token_usage (provider, model, tokens_used, token_limit)
        values ('', null, 'NaN', 'Infinity'), (repeat('p', 50), repeat('m', 300), 1e300, null);
        alter table notification_history drop constraint notification_history_status_check,
            alter column status drop default, alter column status type status
            using status::status;
    """,
    "forced row security, rules, another identity, further demands": """
        alter table token_usage add column region text not null default 'eu',
            add constraint sane check (tokens_used <= 2147483647),
            add constraint once exclude (id with =);
        alter table token_usage alter column region drop default, force row level security;
        create unique index by_id on token_usage (id);
        alter table token_usage replica identity using index by_id;
        create rule log_nothing as on delete to token_thresholds do also select 1;
        create unique index only_one_title on notification_history (id, title);
    """,
    "only two of the tables": """
        drop table notification_history, push_subscriptions;
    """,
}


@pytest.fixture
async def old(original: Database) -> AsyncIterator[Connection]:
    """A connection to the original's database, which is still to be migrated."""
    async with connected(original.dsn) as connection:
        yield connection


@pytest.fixture(scope="module")
def adopted_database(original_template: Database) -> Iterator[Database]:
    """The original's database after the migrations, for tests that leave it as it is."""
    for database in fresh(original_template.cluster, original_template.name):
        in_thread(migrate(database.dsn))
        yield database


@pytest.fixture
async def adopted(adopted_database: Database) -> AsyncIterator[Connection]:
    async with connected(adopted_database.dsn) as connection:
        await connection.set_type_codec(
            "jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
        )
        changes = connection.transaction()
        await changes.start()
        yield connection
        await changes.rollback()


async def row_counts(database: Database) -> dict[str, int]:
    """Of each of the four tables that is there, whatever row security says."""
    async with connected(database.admin_dsn) as admin:
        there = [t for t in TABLES if await admin.fetchval("select to_regclass($1)", t)]
        return {t: await admin.fetchval(f"select count(*) from {t}") for t in there}


def when(day: int, hour: int = 0, month: int = 5) -> datetime:
    return datetime(2025, month, day, hour, tzinfo=UTC)


async def test_quota_states_are_found_again(adopted: Connection) -> None:
    rows = await adopted.fetch(
        "select id, user_id, model, tokens_used, token_limit, percentage, quota, unit,"
        " reported_at, alert_at, timestamp from token_usage order by id"
    )
    assert [row["id"].int & 0xF for row in rows] == [1, 3, 6, 7]
    alice, nobody, unlimited, broken = rows
    assert (alice["user_id"], alice["percentage"]) == (ALICE, 99.999)
    assert (alice["quota"], alice["unit"]) == ("reported", "tokens")
    assert alice["reported_at"] == alice["timestamp"] == when(1, 10)
    assert (nobody["user_id"], nobody["tokens_used"]) == ("", 30)
    assert unlimited["tokens_used"] == 2147483647
    assert (unlimited["token_limit"], unlimited["percentage"]) == (None, None)
    assert (broken["tokens_used"], broken["token_limit"]) == (0, None)
    assert broken["reported_at"] <= datetime.now(UTC)  # said 2035: no report could be newer


async def test_thresholds_are_found_again(adopted: Connection) -> None:
    rows = await adopted.fetch(
        "select provider, user_id, threshold_percentage, is_active from token_thresholds"
        " order by provider, threshold_percentage"
    )
    assert [tuple(row) for row in rows] == [
        ("anthropic", BOB, 50.0, True),
        ("openai", "", 80.0, True),
        ("openai", "", 95.0, True),
    ]


async def test_subscriptions_are_found_again_once_an_endpoint(adopted: Connection) -> None:
    rows = await adopted.fetch(
        "select id, user_id, subscription ->> 'endpoint' as endpoint, is_active, reason"
        " from push_subscriptions order by id"
    )
    assert [(row["id"].int & 0xF, *list(row)[1:]) for row in rows] == [
        (2, "", "https://push.example/alice", True, None),
        (3, "", "test", True, None),
        (4, "", None, False, "no endpoint"),
        (5, "", None, False, "no endpoint"),
        (6, "", "https://push.example/text", True, None),
    ]


async def test_a_subscription_hashes_the_same_however_it_was_written(adopted: Connection) -> None:
    before = "select array_agg(endpoint_hash order by id) from push_subscriptions"
    hashes = await adopted.fetchval(before)
    await adopted.execute("update push_subscriptions set subscription = subscription")
    assert await adopted.fetchval(before) == hashes


async def test_history_is_found_again_and_old_news_is_not_sent(adopted: Connection) -> None:
    rows = await adopted.fetch("select * from notification_history order by id")
    sent, failed, waiting, unclear = rows
    assert (sent["user_id"], sent["title"]) == (ALICE, "openai at 90 %")
    assert sent["body"] == sent["message"] == "gpt-4 is at 90 %"
    assert sent["data"] == {
        "provider": "openai",
        "percentage": 90.0,
        "subscription_id": "10000000-0000-4000-8000-000000000001",
    }
    assert (sent["status"], sent["error"], sent["created_at"]) == ("sent", None, when(1))
    assert (failed["status"], failed["error"]) == ("failed", "push service said 410")
    assert (waiting["status"], unclear["status"]) == ("failed", "sent")
    assert waiting["error"] == "not sent by the older service (pending)"


async def test_the_result_is_a_fresh_schema_and_what_was_there_before(
    original: Database, any_database: Database
) -> None:
    before = await catalog(original.dsn)
    await migrate(original.dsn)
    fresh, adopted = await catalog(any_database.dsn), await catalog(original.dsn)
    assert {key: adopted.get(key) for key in fresh} == fresh

    further = adopted.keys() - fresh.keys()
    assert (
        further - before.keys()
        == {key for key in further if " of authenticated" in key or " of service_role" in key}
        - before.keys()
    )
    assert {"token_usage.timestamp", "push_subscriptions.user_agent"} <= further
    assert "token_usage of reporting" in further  # the grants of others stay
    assert not {key for key in further if "of anon" in key and not key.startswith("update_")}
    assert not {key for key in further if " policy " in key or " trigger " in key}
    kept = {key for key in further if key.startswith("index ")}
    assert kept == {
        "index idx_notification_history_status",
        "index idx_push_subscriptions_active",
        "index idx_token_usage_provider_model",
        "index idx_token_usage_user_id",
    }


async def test_a_publication_stays_on_the_table(adopted: Connection) -> None:
    published = "select tablename from pg_publication_tables where pubname = 'supabase_realtime'"
    assert await adopted.fetchval(published) == "token_usage"


async def test_what_was_dropped_is_told_on_the_table(adopted: Connection) -> None:
    told = await adopted.fetchval("select obj_description('token_usage'::regclass)")
    for line in (
        'dropped policy "Users can view their own token usage"',
        "dropped trigger update_token_usage_updated_at",
        "dropped constraint token_usage_user_id_fkey",
        "dropped index idx_token_usage_updated_at",
        "replaced column percentage",
        "dropped duplicate rows: 3",
    ):
        assert f"quotabell: {line}" in told.splitlines()


async def test_the_older_service_can_still_write(adopted: Connection) -> None:
    await adopted.execute(
        "insert into token_usage (provider, model, tokens_used, token_limit)"
        " values ('openai', 'gpt-5', 5, 10)"
    )
    await adopted.execute(
        "insert into push_subscriptions (user_id, subscription, is_active)"
        """ values ('me', '{"endpoint": "https://push.example/new"}', true)"""
    )
    assert await adopted.fetchval("select percentage from token_usage where model = 'gpt-5'") == 50


async def test_new_rows_need_nothing_that_only_the_older_service_knew(adopted: Connection) -> None:
    await adopted.execute("insert into notification_history (title, body) values ('t', 'b')")
    await adopted.execute("insert into token_thresholds (threshold_percentage) values (150.5)")
    await adopted.execute(
        "insert into token_usage (user_id, quota, provider, model, tokens_used)"
        f" values ('{ALICE}', 'daily', 'openai', 'gpt-4', 10000000000)"
    )


@pytest.mark.parametrize("variant", VARIANTS)
async def test_other_shapes_of_the_tables_become_the_same(
    variant: str, original: Database, old: Connection, any_database: Database
) -> None:
    await old.execute(VARIANTS[variant])
    before = await row_counts(original)

    await migrate(original.dsn)

    expected, adopted = await catalog(any_database.dsn), await catalog(original.dsn)
    assert {key: adopted.get(key) for key in expected} == expected
    after = await row_counts(original)
    doubles = {"token_usage": 3, "token_thresholds": 1, "push_subscriptions": 1}
    for table, count in before.items():
        assert count - doubles.get(table, 0) <= after[table] <= count


async def test_values_that_cannot_be_are_put_out_of_use(
    original: Database, old: Connection
) -> None:
    await old.execute(VARIANTS["JSON as text, other numbers, an enum"])
    await migrate(original.dsn)

    thresholds = await old.fetch(
        "select provider, threshold_percentage from token_thresholds"
        " where provider in ('*', 'w', 'x', 'y', 'z') and is_active"
    )
    assert [tuple(row) for row in thresholds] == [("z", 99.5)]
    usage = await old.fetch(
        "select provider, char_length(model), tokens_used, token_limit from token_usage"
        " where provider ~ 'unknown|pp' order by provider"
    )
    assert [tuple(row) for row in usage] == [
        ("p" * 50, 200, 2**63 - 1, None),
        ("unknown", 7, 0, None),
    ]
    nonsense = "select is_active from push_subscriptions where subscription = '\"nonsense\"'"
    assert await old.fetchval(nonsense) is False


async def test_times_without_a_zone_are_utc(original: Database, old: Connection) -> None:
    await old.execute(f"alter role {OWNER} set timezone = 'Asia/Tokyo'")
    try:
        await old.execute(VARIANTS["timestamps without zone, and none at all"])
        await old.execute("drop trigger update_token_usage_updated_at on token_usage")
        await old.execute("update token_usage set updated_at = '2025-05-01 10:00'")
        await migrate(original.dsn)
    finally:
        await old.execute(f"alter role {OWNER} reset timezone")
    alice = "select reported_at from token_usage where user_id = $1"
    assert await old.fetchval(alice, ALICE) == when(1, 10)


async def test_a_view_that_is_in_the_way_is_named_and_nothing_is_changed(
    original: Database, old: Connection
) -> None:
    await old.execute(
        "create view high_usage as select model from token_usage where percentage > 90;"
        "create materialized view who as select user_id from push_subscriptions;"
        "create view fine as select title from notification_history where false;"
        "create view harmless as select id, is_active from token_thresholds;"
        "alter table token_usage add left_over int generated always as"
        " (token_limit - tokens_used) stored"
    )
    before = await catalog(original.dsn)

    with pytest.raises(MigrationFailed) as refusal:
        await migrate(original.dsn)
    told = str(refusal.value)
    assert "the view high_usage uses token_usage.percentage, which has to change" in told
    assert "pg_get_viewdef('high_usage')" in told
    assert "the view who uses push_subscriptions.user_id" in told
    assert "the generated column token_usage.left_over uses" in told
    assert "harmless" not in told
    after = await catalog(original.dsn)
    assert {key: after[key] for key in before if key.startswith(TABLES)} == {
        key: value for key, value in before.items() if key.startswith(TABLES)
    }

    await old.execute(
        "drop view high_usage, fine; drop materialized view who;"
        "alter table token_usage drop left_over"
    )
    await migrate(original.dsn)
    assert await old.fetchval("select count(*) from harmless") == 3


async def test_a_table_of_another_owner_is_named(original: Database) -> None:
    original.cluster.execute("alter table token_usage owner to postgres", original.name)
    with pytest.raises(MigrationFailed, match="token_usage belongs to postgres; migrate as"):
        await migrate(original.dsn)


async def test_a_table_of_another_service_is_not_taken_over(
    original: Database, old: Connection
) -> None:
    await old.execute("alter table token_usage rename column provider to vendor")
    with pytest.raises(MigrationFailed, match="token_usage has no column provider, so it is not"):
        await migrate(original.dsn)
    assert await old.fetchval("select count(*) from token_usage") == 7
