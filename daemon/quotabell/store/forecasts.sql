-- Statements about forecasts (table forecasts, kind forecast of alerts).

-- due: the next states by id behind $1 of which a forecast might be made or ended: $2 are looked at
-- at most. They are those that reach their limit at the burn of their last sample, soon ($3) or where
-- a day or the periods before may tell so as well, and all of which one is held or fires. One row
-- without an id if there are none; each says how many were looked at, and the last of them. Of those
-- whose quota is counted anew nothing is known. $4: how far is looked ahead without the end of a
-- period. The three periods right before tell of those of days and weeks what was used as late in
-- them (0: not known, or nothing) and in all, newest first
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
        a.data ->> 'exhaustsAt' as told, past.so_far, past.totals
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
    left join lateral (
        select array_agg(p.so_far order by p.period_start desc) as so_far,
            array_agg(p.tokens_used order by p.period_start desc) as totals
        from (
            select o.*, coalesce((
                    select s.used from usage_samples s
                    where s.state_id = o.id and s.time >= o.period_start
                        and s.time <= o.period_start + (now() - t.period_start)
                    order by s.time desc
                    limit 1), 0) as so_far,
                lag(o.period_start, 1, t.period_start) over (
                    order by o.period_start desc) as next_start
            from (
                select id, period_start, period_end, tokens_used from token_usage
                where (user_id, quota, provider, model)
                        = (t.user_id, t.quota, t.provider, t.model)
                    and period_start < t.period_start
                    and period_start >= t.period_start - interval '30 days'
                union all
                select id, period_start, period_end, tokens_used from usage_periods
                where (user_id, quota, provider, model)
                        = (t.user_id, t.quota, t.provider, t.model)
                    and period_start < t.period_start
                    and period_start >= t.period_start - interval '30 days'
                order by period_start desc
                limit 3
            ) o
        ) p
        where t.period_end - t.period_start between interval '20 hours' and interval '8 days'
            and t.tokens_used >= t.token_limit / 5
        having bool_and(p.period_end = p.next_start)
    ) past on true
    where not exists (select from quotas q where q.name = t.quota and q.phase = 'recount')
        and (f.state_id is not null or a.id is not null
            or (t.period_end is not null or $4 > interval '0')
            and (b.exhausts_at <= now() + $3::interval
                or t.period_start <= now() - interval '1 day'
                or t.tokens_used >= t.token_limit / 5
                    and t.period_end - t.period_start >= interval '20 hours'))
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
