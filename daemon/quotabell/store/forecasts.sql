-- Statements about forecasts (table forecasts, kind forecast of alerts).

-- due: the next states by id behind $1 of which a forecast might be made or ended: $2 are looked at
-- at most. They are those that reach their limit at the burn of their last sample, soon ($3) or in
-- a period that is older than a day, and all of which one is held or fires. One row without an id
-- if there are none; each says how many were looked at, and the last of them. Of those whose quota
-- is counted anew nothing is known. $4: how far is looked ahead without the end of a period
with looked_at as materialized (
    select state_id from (
        (select state_id from usage_burn where exhausts_at is not null and state_id > $1::uuid
         order by state_id limit $2)
        union
        (select state_id from forecasts where state_id > $1 order by state_id limit $2)
        union
        (select state_id from alerts
         where kind = 'forecast' and status = 'firing' and state_id > $1
         order by state_id limit $2)
    ) candidates
    order by state_id
    limit $2
), pass as materialized (
    select count(*) as looked_at, (
        select state_id from looked_at order by state_id desc limit 1) as last
    from looked_at
), found as (
    select t.id, t.tokens_used, t.token_limit, nullif(t.period_start, 'epoch') as period_start,
        t.period_end,
        case when b.burn = 0 or b.sampled_at > now() - interval '5 minutes' then b.burn end as burn,
        greatest(t.tokens_used - day.used, 0) / 86400.0::float8 as day,
        greatest(t.tokens_used - week.used, 0) / 604800.0::float8 as week,
        exists (
            select from alerts h
            where h.state_id = t.id and h.kind = 'threshold' and h.status = 'firing'
                and h.level >= 100) as full,
        f.since, f.against, case when a.id is not null then coalesce(a.token_limit, 0) end as fired,
        a.data ->> 'runsOutAt' as told
    from looked_at c
    join token_usage t on t.id = c.state_id
    left join usage_burn b on b.state_id = t.id
    left join forecasts f on f.state_id = t.id
    left join alerts a on a.state_id = t.id and a.kind = 'forecast' and a.status = 'firing'
    left join lateral (
        select s.used from usage_samples s
        where s.state_id = t.id and t.period_start <= now() - interval '1 day'
            and s.time <= now() - interval '1 day' and s.time >= b.restarted_at
        order by s.time desc
        limit 1
    ) day on true
    left join lateral (
        select s.used from usage_samples s
        where s.state_id = t.id and t.period_start <= now() - interval '7 days'
            and s.time <= now() - interval '7 days' and s.time >= b.restarted_at
        order by s.time desc
        limit 1
    ) week on true
    where not exists (select from quotas q where q.name = t.quota and q.phase = 'recount')
        and (f.state_id is not null or a.id is not null
            or (t.period_end is not null or $4 > interval '0')
            and (b.exhausts_at <= now() + $3::interval
                or t.period_start <= now() - interval '1 day'))
)
select p.looked_at, p.last, now() as at, f.*
from pass p left join found f on true
order by f.id;

-- decide: do what was decided about states, each on its own; how many that are, and how many were
-- done. What somebody holds is left for the next round
with decided as materialized (
    select * from json_to_recordset($1::json) as d (
        id uuid, action text, reason text, silent boolean, facts jsonb)
), free as materialized (
    select d.* from decided d join token_usage t using (id)
    where d.action in ('fire', 'note', 'end')
    for no key update of t skip locked
), all_free as (
    select * from free
    union all
    select * from decided where action not in ('fire', 'note', 'end')
)
select count(*) as tried, count(*) filter (
    where quotabell_forecast_safely(id, action, reason, silent, coalesce(facts, '{}'))) as done
from all_free;

-- sweep: forget what was held of states that are gone; how many
with gone as (
    delete from forecasts f
    where not exists (select from token_usage t where t.id = f.state_id)
    returning 1
)
select count(*) as swept from gone;
