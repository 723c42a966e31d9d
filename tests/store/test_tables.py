"""What the tables compute, refuse and show by themselves."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.postgres import Connection, connected

STATE = "insert into token_usage (provider, model, tokens_used, token_limit) values "
ENDPOINT = "https://push.example/1"


@pytest.fixture
async def db(any_dsn: str) -> AsyncIterator[Connection]:
    async with connected(any_dsn) as connection:
        yield connection


@pytest.mark.parametrize(
    ("used", "limit", "percentage"),
    [
        (99_999, 100_000, 99.999),
        (2**63 - 1, 1, (2**63 - 1) * 100.0),
        (0, 5, 0.0),
        (5, None, None),
    ],
)
async def test_the_percentage_is_not_rounded(
    used: int, limit: int | None, percentage: float | None, db: Connection
) -> None:
    query = f"{STATE} ('a', 'b', $1, $2) returning percentage"
    assert await db.fetchval(query, used, limit) == percentage


@pytest.mark.parametrize(
    "values",
    ["('a', 'b', 1, 0)", "('a', 'b', 1, -1)", "('a', 'b', -1, 1)", "('', 'b', 1, 1)",
     "('a', repeat('b', 201), 1, 1)"],
)  # fmt: skip
async def test_values_that_mean_nothing_are_refused(values: str, db: Connection) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute(STATE + values)


async def test_a_user_that_is_nobody_cannot_make_a_second_state(db: Connection) -> None:
    await db.execute(f"{STATE} ('a', 'b', 1, 2)")
    with pytest.raises(asyncpg.UniqueViolationError):
        await db.execute(f"{STATE} ('a', 'b', 1, 2)")


async def test_reports_update_rows_in_place(db: Connection) -> None:
    """No index holds a column that they change."""
    await db.execute(f"{STATE} ('a', 'b', 1, 1000)")
    async with db.transaction():
        await db.execute(
            "update token_usage set tokens_used = 2, token_limit = 999, reported_at = now(),"
            " prev_used = 1, prev_reported_at = now(), updated_at = now(), alert_at = 80,"
            " resolve_at = 70, period_end = now()"
        )
        in_place = "select pg_stat_get_xact_tuples_hot_updated('token_usage'::regclass)"
        assert await db.fetchval(in_place) >= 1
        assert await db.fetchval(in_place) == await db.fetchval(
            "select pg_stat_get_xact_tuples_updated('token_usage'::regclass)"
        )


@pytest.mark.parametrize("threshold", ["0", "-1", "1000.5", "'NaN'", "'Infinity'"])
async def test_thresholds_lie_between_0_and_1000(threshold: str, db: Connection) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await db.execute(
            f"insert into token_thresholds (threshold_percentage) values ({threshold})"
        )


async def test_cold_tables_note_when_they_were_changed(db: Connection) -> None:
    await db.execute(
        "insert into token_thresholds (threshold_percentage, updated_at) values (80, 'epoch')"
    )
    same = "update token_thresholds set is_active = true returning updated_at = 'epoch'"
    assert await db.fetchval(same) is True
    changed = "update token_thresholds set is_active = false returning updated_at = now()"
    assert await db.fetchval(changed) is True


async def test_an_endpoint_has_one_subscription_whoever_writes_it(db: Connection) -> None:
    insert = "insert into push_subscriptions (subscription, endpoint_hash) values ($1, 'x')"
    subscription = f'{{"endpoint": "{ENDPOINT}"}}'
    found = await db.fetchrow(f"{insert} returning endpoint_hash, is_active", subscription)
    assert found is not None
    assert tuple(found) == (hashlib.sha256(ENDPOINT.encode()).hexdigest(), True)
    with pytest.raises(asyncpg.UniqueViolationError):
        await db.execute(insert, subscription)


async def test_subscriptions_without_an_endpoint_are_kept_out_of_use(db: Connection) -> None:
    for subscription in ("{}", '{"endpoint": ""}', '"text"'):
        found = await db.fetchrow(
            "insert into push_subscriptions (subscription) values ($1) returning is_active, reason",
            subscription,
        )
        assert found is not None
        assert tuple(found) == (False, "no endpoint")


async def test_settings_are_one_row(db: Connection) -> None:
    settings = await db.fetchrow("select default_thresholds, hysteresis from settings")
    assert settings is not None
    assert tuple(settings) == ([75.0, 90.0, 100.0], 5.0)
    for values in ("(id) values (true)", "(id) values (false)"):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await db.execute(f"insert into settings {values}")
    for thresholds in ("{0}", "{1001}", "{NULL}", "{NaN}"):
        with pytest.raises(asyncpg.CheckViolationError):
            await db.execute(f"update settings set default_thresholds = '{thresholds}'")


async def test_current_usage_shows_the_periods_that_are_open(db: Connection) -> None:
    for model, start, end in (
        ("over", "now() - interval '2 h'", "now()"),
        ("open", "now() - interval '1 h'", "now() + interval '1 h'"),
        ("coming", "now() + interval '1 h'", "null"),
        ("unknown", "'epoch'", "null"),
    ):
        await db.execute(
            "insert into token_usage (provider, model, tokens_used, period_start, period_end)"
            f" values ('a', '{model}', 1, {start}, {end})"
        )
    rows = await db.fetch("select model from current_usage order by model")
    assert [row["model"] for row in rows] == ["open", "unknown"]


async def test_usage_by_provider_counts_tokens_of_several_quotas_once(db: Connection) -> None:
    await db.execute(
        """
        insert into token_usage (user_id, quota, provider, model, tokens_used, token_limit, unit)
        values ('u', 'day', 'a', 'm', 10, 100, 'tokens'), ('u', 'hour', 'a', 'm', 4, 8, 'tokens'),
            ('v', 'day', 'a', 'm', 5, 100, 'tokens'), ('', 'day', 'a', 'n', 1, null, 'tokens'),
            ('u', 'reported:requests', 'a', 'm', 900, 1000, 'requests')
        """
    )
    found = await db.fetchrow(
        "select models, users, tokens_used, highest_percentage from usage_by_provider"
    )
    assert found is not None
    assert tuple(found) == (2, 2, 16, 90.0)
