-- Statements that add usage events to the quota states (table token_usage).

-- positions: how far quotas that are being counted again have come. Until the transaction ends
-- they go no further
select name, phase, done_day, done_source, done_event
from quotas where name = any($1::text[]) order by name for share;

-- charge: add to the state of each counter and period, one row each, sorted by key, so that
-- concurrent writers never deadlock. A state that follows an older definition begins anew, unless
-- its period was over before the newer one came (generation 0): that is added to. New states are
-- armed with the lowest threshold of any scope or quota: below it none costs a call of
-- ring(); while its quota is counted again, none rings.
insert into token_usage as t (
    user_id, quota, provider, model, period_start, period_end, tokens_used, token_limit,
    generation, reported_at, alert_at
)
select
    i.user_id, i.quota, i.provider, i.model, i.period_start, i.period_end, i.amount, i.token_limit,
    case when i.period_start >= q.counted_from then q.generation else 0 end, now(),
    case when i.period_end <= now() or q.phase = 'recount' then 'infinity'
        else (select quotabell_lowest_threshold()) end
from unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[],
    $7::bigint[], $8::bigint[]
) as i (user_id, quota, provider, model, period_start, period_end, amount, token_limit)
join quotas q on q.name = i.quota
order by i.user_id collate "C", i.quota collate "C", i.provider collate "C", i.model collate "C",
    i.period_start
on conflict (user_id, quota, provider, model, period_start) do update set
    tokens_used = case when excluded.generation not in (0, t.generation) then excluded.tokens_used
        -- Full, rather than refused: what is that far above a limit has rung.
        else least(9223372036854775807, t.tokens_used::numeric + excluded.tokens_used)::bigint end,
    token_limit = excluded.token_limit,
    period_end = excluded.period_end,
    alert_at = case when excluded.generation in (0, t.generation) then t.alert_at
        when excluded.alert_at = 'infinity' then 'infinity' else '-infinity' end,
    resolve_at = case when excluded.generation in (0, t.generation) then t.resolve_at
        else '-infinity' end,
    generation = coalesce(nullif(excluded.generation, 0), t.generation),
    reported_at = excluded.reported_at,
    prev_used = t.tokens_used,
    updated_at = now()
returning
    id::text, user_id, quota, provider, model, tokens_used, token_limit, percentage, reported_at,
    period_end, period_start <= now() and now() < period_end as open;

-- hold: lock states in the order of all writers, before some of them are written apart
select from token_usage t
join unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[])
    as i (user_id, quota, provider, model, period_start)
    using (user_id, quota, provider, model, period_start)
order by user_id collate "C", quota collate "C", provider collate "C", model collate "C",
    period_start
for no key update of t;

-- reduce_moved: take what a correction moved to kinds that weigh less from closed states that are
-- no longer among the present ones
update usage_periods k set tokens_used = greatest(0, k.tokens_used - i.amount)
from unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::bigint[]
) as i (user_id, quota, provider, model, period_start, amount)
where k.user_id = i.user_id and k.quota = i.quota and k.provider = i.provider
    and k.model = i.model and k.period_start = i.period_start
returning k.user_id, k.quota, k.provider, k.model, k.period_start;

-- reduce: the same for present ones
update token_usage t set
    tokens_used = greatest(0, t.tokens_used - i.amount),
    prev_used = t.tokens_used,
    updated_at = now()
from unnest(
    $1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::bigint[]
) as i (user_id, quota, provider, model, period_start, amount), quotas q
where t.user_id = i.user_id and t.quota = i.quota and t.provider = i.provider
    and t.model = i.model and t.period_start = i.period_start
    and q.name = i.quota
    and (t.generation = q.generation or t.period_start < q.counted_from)
returning
    t.id::text, t.user_id, t.quota, t.provider, t.model, t.tokens_used, t.token_limit,
    t.percentage, t.reported_at, t.period_end,
    t.period_start <= now() and now() < t.period_end as open;
