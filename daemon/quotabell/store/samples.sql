-- Statements about samples of usage (tables usage_samples and usage_burn).

-- take: sample open states that changed since their last sample or still burn, and those whose
-- burn can be told now; none again within $2. By id from $3 on, $4 at most; how many, and the
-- last of them. The burn is what was added during the window $1: since the last sample before it,
-- or since 0 where the period began within it, or the state was first used within it, which cannot
-- be told of the period in which its quota was defined
with due as materialized (
    select t.id, t.tokens_used, t.token_limit, t.period_start, t.period_end, t.quota, t.created_at,
        coalesce(b.restarted_at, '-infinity') as restarted_at
    from token_usage t
    left join usage_burn b on b.state_id = t.id
    where t.id > $3::uuid
        and t.period_start <= now() and (t.period_end is null or now() < t.period_end)
        and (b.state_id is null or b.sampled_at <= now() - $2::interval and (
            t.tokens_used <> b.used or t.token_limit is distinct from b.lim or b.burn > 0 or b.dipped
            or b.sampled_at < b.restarted_at
            or b.burn is null and exists (
                select from usage_samples s
                where s.state_id = t.id and s.time <= now() - $1::interval
                    and s.time >= b.restarted_at)))
    order by t.id
    limit $4
), based as materialized (
    select d.*, case
        when d.restarted_at > now() - $1 then null
        when d.period_start > now() - $1 then 0
        else coalesce((
            select s.used from usage_samples s
            where s.state_id = d.id and s.time <= now() - $1 and s.time >= d.restarted_at
            order by s.time desc
            limit 1), (
            select 0 from quota_periods p
            where p.quota = d.quota and p.period_start = d.period_start and p.continues
                and d.created_at > now() - $1)) end as base
    from due d
), burning as materialized (
    select b.*, case when base is not null
        then greatest(tokens_used - base, 0) / extract(epoch from $1)::float8 end as burn,
        base >= tokens_used and exists (
            select from usage_samples s
            where s.state_id = b.id and s.time > now() - $1 and s.time >= b.restarted_at
                and s.used < b.tokens_used) as dipped
    from based b
), measured as materialized (
    select b.*, case
        when burn > 0 and token_limit > tokens_used and (token_limit - tokens_used) / burn
            < extract(epoch from least(period_end, now() + interval '366 days') - now())
            then now() + interval '1 second' * ((token_limit - tokens_used) / burn)
        end as exhausts_at
    from burning b
), sampled as (
    insert into usage_samples (state_id, time, used, lim, burn)
    select id, now(), tokens_used, token_limit, burn from measured
    order by id
    on conflict do nothing
), noted as (
    insert into usage_burn as b (state_id, sampled_at, used, lim, burn, exhausts_at, dipped)
    select id, now(), tokens_used, token_limit, burn, exhausts_at, coalesce(dipped, false)
    from measured
    order by id
    on conflict (state_id) do update set
        sampled_at = excluded.sampled_at,
        used = excluded.used,
        lim = excluded.lim,
        burn = excluded.burn,
        exhausts_at = excluded.exhausts_at,
        dipped = excluded.dipped
    where b.sampled_at < excluded.sampled_at
)
select (select count(*) from due) as taken, (select id from due order by id desc limit 1) as last;

-- restart: what these states used so far does not tell how fast they burn, also of those that have
-- not been sampled yet
insert into usage_burn as b (state_id, sampled_at, used, restarted_at)
select id, '-infinity', 0, now() from token_usage
where id = any ($1::uuid[])
order by id
on conflict (state_id) do update set restarted_at = now(), burn = null, exhausts_at = null;

-- sweep: forget the last samples of states that are gone; how many
with gone as (
    delete from usage_burn b
    where not exists (select from token_usage t where t.id = b.state_id)
    returning 1
)
select count(*) as swept from gone;

-- burns: how fast these states burn, as far as they are open and it is known. A burn of old would
-- not be true any more; one of 0 is, until the next sample
select b.state_id, b.burn, b.sampled_at
from usage_burn b
join token_usage t on t.id = b.state_id
where b.state_id = any ($1::uuid[]) and ($2::text is null or t.user_id = $2)
    and (t.period_end is null or now() < t.period_end)
    and (b.burn = 0 or b.burn > 0 and b.sampled_at > now() - interval '5 minutes');

-- burning: every open state whose burn is known, for /metrics
select t.id::text, t.user_id, t.quota, t.provider, t.model, t.tokens_used, t.token_limit,
    t.period_end, b.burn, greatest(t.updated_at, b.sampled_at) as at, t.unit
from current_usage t
join usage_burn b on b.state_id = t.id
where b.burn = 0 or b.burn > 0 and b.sampled_at > now() - interval '5 minutes';

-- state: whether there is such a state, of a given user where one is given
select id from token_usage where id = $1 and ($2::text is null or user_id = $2);

-- history: the samples of a state between two times, the last one of each of $4 equal parts
select time, used, lim, burn
from (
    select distinct on (part) part, time, used, lim, burn
    from (
        select s.*, least($4::integer - 1, floor(extract(epoch from s.time - $2::timestamptz)
            * $4 / extract(epoch from $3::timestamptz - $2))) as part
        from usage_samples s
        where s.state_id = $1 and s.time between $2 and $3
    ) as parted
    order by part, time desc
) as thinned
order by time;
