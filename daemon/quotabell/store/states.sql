-- Statements that read and remove quota states (table token_usage) for people.

-- listed: quota states by percentage, highest first; $1 whose, else everybody's. A row changes
-- its place while the list is read, so only the first part ($8 = 0) shows rows as they come. The
-- others go on behind $9, $10 among those that no transaction changed that was open at the first
-- part ($11) or began later ($8 = 1), and in the end come those that one did, by id ($8 = 2).
select t.id, t.user_id, t.quota, t.provider, t.model,
    nullif(t.period_start, 'epoch') as period_start, t.period_end, t.unit, t.tokens_used,
    t.token_limit, t.percentage, t.reported_at, t.updated_at,
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint as oldest_writer
from token_usage t
where ($1::text is null or t.user_id = $1)
    and ($2::text is null or t.provider ~ $2)
    and ($3::text is null or t.model ~ $3)
    and ($4::text is null or t.user_id ~ $4)
    and ($5::text is null or t.quota ~ $5)
    and case $6::text
        when 'open' then t.period_start <= now() and (t.period_end is null or now() < t.period_end)
        when 'closed' then t.period_end <= now()
        else true end
    and ($7::timestamptz is null or t.updated_at > $7)
    and case $8::integer
        when 0 then true
        when 1 then (-coalesce(t.percentage, -1), t.id) > (-$9::float8, $10::uuid)
            and age(t.xmin) > age($11::text::xid8::xid)
        else t.id > $10 and age(t.xmin) <= age($11::text::xid8::xid) end
order by case when $8 < 2 then -coalesce(t.percentage, -1) end, t.id
limit $12;

-- alerts: the firing threshold alerts of these states. Apart from the list, because a join is
-- planned badly while the statistics lag behind a table that has just grown
select state_id, id, level, started_at, acknowledged_at, acknowledged_by
from alerts
where state_id = any ($1::uuid[]) and kind = 'threshold' and status = 'firing';

-- thresholds: the effective thresholds of these quotas, providers and users. Whoever has none of
-- their own has those of nobody in particular, so few calls are enough for many users
with asked as materialized (
    select k.quota, k.provider, k.user_id,
        case when k.user_id in (select user_id from token_thresholds where is_active)
            then k.user_id else '' end as decisive
    from unnest($1::text[], $2::text[], $3::text[]) as k (quota, provider, user_id)
), found as materialized (
    select quota, provider, decisive, quotabell_thresholds(quota, provider, decisive) as thresholds
    from (select distinct quota, provider, decisive from asked) as once
)
select quota, provider, user_id, thresholds
from asked join found using (quota, provider, decisive);

-- remove: a quota state, whose alerts then end; what it was of
with gone as (
    delete from token_usage where id = $1
    returning id, user_id, quota, provider, model
), ended as (
    update alerts a set status = 'resolved', reason = 'usage removed', seq = seq + 1,
        ended_at = now(), updated_at = now()
    from gone g
    where a.state_id = g.id and a.status = 'firing' and a.kind in ('threshold', 'forecast')
    returning a as alert
)
select id::text, user_id, quota, provider, model,
    (select count(*) from (select quotabell_announce(alert) from ended) as told) as told
from gone;
