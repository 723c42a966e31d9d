-- Statements about what is yet to be put into words (table notification_history).

-- waiting: notifications of alerts that are yet to be turned into deliveries and have no words of
-- their own, and what is known of the quota states they are about
select h.id, h.kind, h.transition, h.level, h.user_id as "user", h.data, a.state_id::text as state,
    u.unit, u.period_end, b.burn, now() as now, s.generation
from notification_history h
join alerts a on a.id = h.alert_id
cross join settings s
left join token_usage u on u.id = a.state_id
-- A burn of old would not be true any more.
left join usage_burn b on b.state_id = a.state_id
    and (b.burn = 0 or b.burn > 0 and b.sampled_at > now() - interval '5 minutes')
where h.status = 'pending' and h.enqueued_at is null and h.alert_id is not null
    and not h.data ? 'words'
order by h.created_at, h.id
limit $1;

-- lately: what was used in the last hour by whom and of what, the most first, $4 at most, those of
-- the users $1 before others; without $2 only theirs. Looked through are the last $3 blocks of a
-- day's events, which were written last: no index has to be kept for it, and the cost has a bound
-- however many events there are. `since` is how far back that reaches, if not an hour.
with blocks as materialized (
    select day, greatest(0, coalesce(pg_relation_size(to_regclass(
            'quotabell_parts.usage_events_' || to_char(day, 'YYYYMMDD'))), 0)
        / current_setting('block_size')::bigint - $3::bigint) as first
    from (
        select (now() at time zone 'UTC')::date as day
        union all
        select (now() at time zone 'UTC')::date - 1
        where (now() - interval '1 hour') at time zone 'UTC'
            < date_trunc('day', now() at time zone 'UTC')) days
), latest as materialized (
    select e.* from usage_events e
    where e.day = (now() at time zone 'UTC')::date
        and e.ctid >= (
            select format('(%s,0)', first)::tid from blocks
            where day = (now() at time zone 'UTC')::date)
    union all
    select e.* from usage_events e
    where e.day = (now() at time zone 'UTC')::date - 1
        and e.ctid >= (
            select format('(%s,0)', first)::tid from blocks
            where day = (now() at time zone 'UTC')::date - 1)
)
select user_id, provider, model, sum(input) as input, sum(cache_read) as cache_read,
    sum(cache_write) as cache_write, sum(output) as output, sum(reasoning) as reasoning,
    sum(other) as other, count(*) as requests,
    (select extract(epoch from now() - min(received_at))::float8 from latest
        where exists (select from blocks where first > 0)) as since
from latest
where time > now() - interval '1 hour' and ($2::boolean or user_id = any($1::text[]))
group by user_id, provider, model
order by user_id = any($1::text[]) desc,
    sum(input + cache_read + cache_write + output + reasoning + other) desc
limit $4;

-- word: give notifications their words, as long as they have not been turned into deliveries; what
-- somebody holds is being turned into them
with given as (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
        as g (id, title, body, words)
), free as materialized (
    select h.id from notification_history h
    where h.id = any($1::uuid[]) and h.status = 'pending' and h.enqueued_at is null
    order by h.id
    for no key update skip locked
)
update notification_history h set
    title = g.title,
    body = g.body,
    data = h.data || jsonb_build_object('words', g.words::jsonb)
from given g join free using (id)
where h.id = g.id;
