-- Statements about quota states (table token_usage).

-- report: store the snapshots of a batch, one row a key; an older report changes nothing but
-- is answered with what is stored. Sorted by key, so that concurrent writers never deadlock. New
-- rows are armed with the lowest threshold of any scope: below it none costs a call of ring().
insert into token_usage as t (
    user_id, quota, provider, model, tokens_used, token_limit, reported_at, unit, period_end,
    alert_at
)
select
    i.user_id, i.quota, i.provider, i.model, i.tokens_used, i.token_limit,
    least(coalesce(i.reported_at, now()), now()), i.unit, i.reset,
    (select quotabell_lowest_threshold())
from unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::timestamptz[],
    $8::text[], $9::timestamptz[]
) as i (
    user_id, quota, provider, model, tokens_used, token_limit, reported_at, unit, reset
)
order by i.user_id collate "C", i.quota collate "C", i.provider collate "C", i.model collate "C"
on conflict (user_id, quota, provider, model, period_start) do update set
    tokens_used = case when excluded.reported_at >= t.reported_at
        then excluded.tokens_used else t.tokens_used end,
    token_limit = case when excluded.reported_at >= t.reported_at
        then excluded.token_limit else t.token_limit end,
    unit = case when excluded.reported_at >= t.reported_at then excluded.unit else t.unit end,
    period_end = case when excluded.reported_at >= t.reported_at
        then excluded.period_end else t.period_end end,
    reported_at = greatest(excluded.reported_at, t.reported_at),
    prev_reported_at = t.reported_at,
    prev_used = t.tokens_used,
    updated_at = now()
returning
    id::text, user_id, quota, provider, model, tokens_used, token_limit, percentage, reported_at,
    period_end, prev_reported_at as before, now() as clock, unit;

-- current: every quota state that is open now, for /metrics
select id::text, user_id, quota, provider, model, tokens_used, token_limit, percentage,
    reported_at, period_end, unit
from current_usage;
