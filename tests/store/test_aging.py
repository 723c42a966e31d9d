"""Old rows go, some at a time; what is young, open or firing stays."""

from __future__ import annotations

from datetime import timedelta

from quotabell.store.aging import AgingStore
from tests.store.test_events import opened

YEAR = timedelta(days=365)

ROWS = """
insert into notification_history (id, title, body, created_at) values
    ('00000000-0000-0000-0000-000000000001', 'old', '', now() - interval '400 days'),
    ('00000000-0000-0000-0000-000000000002', 'old but open', '', now() - interval '400 days'),
    ('00000000-0000-0000-0000-000000000003', 'young', '', now() - interval '300 days');
insert into deliveries (notification_id, channel, target, origin, status, expires_at)
select id, 'webpush', id::text, '',
    case title when 'old but open' then 'pending' else 'sent' end, now()
from notification_history;
insert into alerts (state_id, quota, provider, model, level, tokens_used, status, ended_at)
select gen_random_uuid(), 'q', 'p', m, 90, 1, s, e from (values
    ('old', 'resolved', now() - interval '400 days'),
    ('young', 'resolved', now() - interval '300 days'),
    ('firing', 'firing', null)) as a (m, s, e);
"""


async def test_only_what_is_old_and_over_is_deleted(any_dsn):
    async with opened(any_dsn) as store:
        await store.database.execute(ROWS)

        assert await AgingStore(store.database).history(YEAR, 10) == 1
        kept = await store.database.fetch("select title from notification_history order by 1")
        assert [row[0] for row in kept] == ["old but open", "young"]
        assert len(await store.database.fetch("select from deliveries")) == 2
        models = await store.database.fetch("select model from alerts order by 1")
        assert [row[0] for row in models] == ["firing", "young"]


async def test_a_batch_is_bounded(any_dsn):
    async with opened(any_dsn) as store:
        await store.database.execute(
            "insert into notification_history (title, body, created_at) "
            "select 'old', '', now() - interval '2 years' from generate_series(1, 25)"
        )
        aging = AgingStore(store.database)

        assert [await aging.history(YEAR, 10) for _ in range(4)] == [10, 10, 5, 0]


async def test_subscriptions_that_ended_long_ago_are_deleted(any_dsn):
    async with opened(any_dsn) as store:
        await store.database.execute(
            """
            insert into push_subscriptions (user_id, subscription, is_active, updated_at)
            select u, jsonb_build_object('endpoint', u || n), u = 'active',
                now() - case u when 'lately' then interval '29 days' else interval '31 days' end
            from unnest(array['active', 'lately', 'ended']) u, generate_series(1, 15) n
            """
        )
        aging = AgingStore(store.database)
        month = timedelta(days=30)

        assert [await aging.subscriptions(month, 10) for _ in range(3)] == [10, 5, 0]
        kept = await store.database.fetch("select distinct user_id from push_subscriptions")
        assert {row[0] for row in kept} == {"active", "lately"}
