-- Statements about what is yet to be put into words (table notification_history).

-- waiting: notifications that are yet to be turned into deliveries, alerts first, and for those of
-- alerts without words of their own (mute) what is known of the quota states they are about. What
-- somebody holds is being turned into deliveries. The disk is not waited for (nor by `word`): nobody
-- is told anything before the claim is on it, and by then so is all that came before.
with next as materialized (
    select h.* from notification_history h
    cross join (select set_config('synchronous_commit', 'off', true)) unhurried
    where h.status = 'pending' and h.enqueued_at is null
    order by h.alert_id is null, h.created_at, h.id
    limit $1
    for no key update of h skip locked
)
select h.id, a.id is not null and not h.data ? 'words' as mute, h.kind, h.transition, h.level,
    h.user_id as "user", h.data, coalesce(a.state_id::text, '') as state, u.unit, u.period_end,
    b.burn, now() as now, s.generation
from next h
cross join settings s
left join alerts a on a.id = h.alert_id
left join token_usage u on u.id = a.state_id
-- A burn of old would not be true any more.
left join usage_burn b on b.state_id = a.state_id
    and (b.burn = 0 or b.burn > 0 and b.sampled_at > now() - interval '5 minutes');

-- lately: what was used in the last hour by whom and of what, the most first, $4 at most, those of
-- the users $1 before others; without $2 only theirs. Of many events only the last are looked
-- through; `since` is how far back that reaches (seconds), if not an hour. Shares of a whole need
-- no more digits than a float has.
select user_id, provider, model, sum(input::float8) as input, sum(cache_read::float8) as cache_read,
    sum(cache_write::float8) as cache_write, sum(output::float8) as output,
    sum(reasoning::float8) as reasoning, sum(other::float8) as other, count(*) as requests,
    case when bool_or(bool_or(cut)) over ()
        then extract(epoch from now() - min(min(received_at)) over ())::float8 end as since
from quotabell_lately($3)
where time > now() - interval '1 hour' and ($2::boolean or user_id = any($1::text[]))
group by user_id, provider, model
order by user_id = any($1::text[]) desc,
    sum(input::float8 + cache_read + cache_write + output + reasoning + other) desc
limit $4;

-- word: give notifications their words, as long as they have not been turned into deliveries; what
-- somebody holds is being turned into them
with given as (
    select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[])
        as g (id, title, body, words)
), free as materialized (
    select h.id from notification_history h
    cross join (select set_config('synchronous_commit', 'off', true)) unhurried
    where h.id = any($1::uuid[]) and h.status = 'pending' and h.enqueued_at is null
    order by h.id
    for no key update of h skip locked
)
update notification_history h set
    title = g.title,
    body = g.body,
    data = h.data || jsonb_build_object('words', g.words::jsonb)
from given g join free using (id)
where h.id = g.id;
