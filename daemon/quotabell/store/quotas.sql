-- Statements about the quotas in force (table quotas): their definitions, and the background
-- work that makes quota states follow them.

-- share: taken by every transaction that counts events, so that quotas do not change within it
select pg_advisory_xact_lock_shared($1);

-- change: taken to change quotas, when nobody counts
select pg_advisory_xact_lock($1);

-- in_force: the quotas that events count for; one row without a name if there are none
select s.generation as in_force, q.name, q.definition, q.generation, q.counted_from, q.phase
from settings s left join quotas q on q.phase <> 'removed'
order by q.name;

-- known: what the definitions are now
select name, definition, fingerprint, phase from quotas;

-- advance: what is written from now on follows other quotas; the evaluator is told
update settings set generation = generation + 1
returning generation, pg_notify('quotabell', 'quotas');

-- define: a new quota, or one that counts otherwise than before: all is counted anew
insert into quotas (
    name, definition, fingerprint, thresholds, notify, generation, counted_from, defined_from,
    phase, seeding)
values ($1, $2::jsonb, $3, $4::float8[], $5::text[], $6, $7, $7, 'recount', true)
on conflict (name) do update set
    definition = excluded.definition, fingerprint = excluded.fingerprint,
    thresholds = excluded.thresholds, notify = excluded.notify,
    generation = excluded.generation, counted_from = excluded.counted_from,
    defined_from = excluded.defined_from, phase = 'recount',
    done_day = null, done_source = null, done_event = null,
    settled = default, settled_period = default, seeding = true, changed_at = now();

-- adjust: other limits, thresholds or recipients: what is counted stays
update quotas set
    definition = $2::jsonb, thresholds = $3::float8[], notify = $4::text[],
    phase = case when phase = 'recount' then phase else 'settle' end,
    settled = default, settled_period = default, seeding = seeding and phase <> 'ready',
    changed_at = now()
where name = $1;

-- remove: these are no longer configured
update quotas set phase = 'removed', settled = default, settled_period = default,
    changed_at = now()
where phase <> 'removed' and not name = any($1::text[])
returning name;

-- forget_periods: of a quota whose window may have changed
delete from quota_periods where quota = $1;

-- drop_periods: have no other periods than these
delete from quota_periods p
where not exists (
    select from unnest($1::text[], $2::timestamptz[], $3::timestamptz[])
        as i (quota, period_start, period_end)
    where i = (p.quota, p.period_start, p.period_end));

-- keep_periods: have these periods
insert into quota_periods (quota, period_start, period_end, continues)
select i.quota, i.period_start, i.period_end, i.period_start > q.defined_from
from unnest($1::text[], $2::timestamptz[], $3::timestamptz[])
    as i (quota, period_start, period_end)
join quotas q on q.name = i.quota
on conflict do nothing;

-- recount_again: count quotas anew (NULL: all); their names
update quotas set
    generation = $2, counted_from = coalesce(
        (select p.period_start from quota_periods p
         where p.quota = quotas.name and p.period_start <= now() and now() < p.period_end),
        counted_from),
    phase = 'recount', done_day = null, done_source = null, done_event = null,
    settled = default, settled_period = default, seeding = true, changed_at = now()
where phase <> 'removed' and ($1::text[] is null or name = any($1::text[]))
returning name;

-- at_work: quotas whose states do not follow them yet, the longest first
select name, phase from quotas where phase <> 'ready' order by changed_at, name;

-- recounting: take a quota that is to be counted anew. Waits for who counts along, and for
-- reports of corrections, which come all the time
select name, definition, generation, counted_from, done_day, done_source, done_event,
    (counted_from at time zone 'UTC')::date - 1 as first_day,
    (now() at time zone 'UTC')::date + 1 as last_day
from quotas where name = $1 and phase = 'recount' for no key update;

-- events: the next events of one day that were counted for other quotas than now, in key order
select source, event_id, time, provider, model, user_id,
    input, cache_read, cache_write, output, reasoning, other
from usage_events
where day = $1 and (source, event_id) > ($2 collate "C", $3 collate "C")
    and generation < $4 and time >= $5
order by source, event_id
limit $6;

-- recounted: note how far a quota has been counted anew
update quotas set done_day = $2, done_source = $3, done_event = $4 where name = $1;

-- counted: all of a quota is counted
update quotas set phase = 'settle' where name = $1;

-- settling: take a quota whose states are to be compared, unless somebody else works on it
select name, definition, generation, phase, settled, settled_period, seeding, changed_at
from quotas where name = $1 and phase in ('settle', 'removed') for no key update skip locked;

-- patience: who holds a row for long is not waited for in this transaction, since others give up
-- waiting for the rows that it holds itself. A plan that is made without knowing how many rows
-- are asked for would read the whole table for each batch
select set_config('lock_timeout', '500ms', true),
    set_config('plan_cache_mode', 'force_custom_plan', true);

-- marked: alerts found by counting again are told in one message
select set_config('quotabell.seeding', $1, true);

-- states: the next states of a quota in key order that were open when it changed (clocks differ
-- by less than a minute), locked in the order of all writers
with picked as materialized (
    select t.id, t.user_id, t.quota, t.provider, t.model, t.period_start
    from token_usage t
    where t.quota = $1 and t.period_end > $8::timestamptz - interval '1 minute'
        and (t.user_id, t.quota, t.provider, t.model, t.period_start)
            > ($2::text, $3::text, $4::text, $5::text, $6::timestamptz)
    order by t.user_id, t.quota, t.provider, t.model, t.period_start
    limit $7
), locked as materialized (
    select t.id, t.generation, t.period_end > now() as open
    from token_usage t join picked using (id)
    order by t.user_id collate "C", t.quota collate "C", t.provider collate "C",
        t.model collate "C", t.period_start
    for no key update of t
)
select p.id, p.user_id, p.provider, p.model, p.period_start, l.generation, l.open
from picked p left join locked l using (id)
order by p.user_id, p.quota, p.provider, p.model, p.period_start;

-- settle: the same states, all of one limit ($9; NULL: the quota is removed) and generation, at
-- once, where those of another generation are deleted, others rung or armed unless they are as they
-- should be. How many there were, and the last; their ids if $11. Rows are found by their place,
-- which takes half the time of their keys; those that somebody wrote meanwhile have moved from
-- there and are left as they are, which is told
with picked as materialized (
    select t.ctid as place, t.id, t.user_id, t.quota, t.provider, t.model, t.period_start
    from token_usage t
    where t.quota = $1 and t.period_end > $8::timestamptz - interval '1 minute'
        and (t.user_id, t.quota, t.provider, t.model, t.period_start)
            > ($2::text, $3::text, $4::text, $5::text, $6::timestamptz)
    order by t.user_id, t.quota, t.provider, t.model, t.period_start
    limit $7
), locked as materialized (
    select t.ctid as place, t.ctid = p.place as unmoved, t.id,
        t.generation is distinct from $10 or $9::bigint is null as stale,
        t.period_end > now() as open
    from token_usage t join picked p on t.ctid = p.place
    order by t.user_id collate "C", t.quota collate "C", t.provider collate "C",
        t.model collate "C", t.period_start
    for no key update of t
), lowest as materialized (
    select quotabell_lowest_threshold() as threshold
), gone as (
    delete from token_usage t using locked l where t.ctid = l.place and l.unmoved and l.stale
), compared as (
    update token_usage t set
        token_limit = $9,
        alert_at = case
            when t.resolve_at = '-infinity'
                and t.tokens_used * 100.0::float8 / $9 < lowest.threshold
                then lowest.threshold
            else '-infinity' end
    from locked l, lowest
    where t.ctid = l.place and l.unmoved and l.open and not l.stale and not (
        t.token_limit = $9 and t.alert_at = lowest.threshold and t.resolve_at = '-infinity'
        and t.percentage < lowest.threshold)
)
select count(*) over () as states,
    count(*) over () > (select count(*) from locked where unmoved) as moved,
    p.user_id, p.provider, p.model, p.period_start,
    case when $11 then (
        select array_agg(id) from locked where unmoved and open and not stale
    ) end as ids
from picked p
order by p.user_id desc, p.quota desc, p.provider desc, p.model desc, p.period_start desc
limit 1;

-- compare: give states their limits and have them rung or armed
with lowest as materialized (
    -- Asked once, not for each row.
    select quotabell_lowest_threshold() as threshold
)
update token_usage t set
    token_limit = i.token_limit,
    alert_at = case
        when t.resolve_at = '-infinity'
            and t.tokens_used * 100.0::float8 / i.token_limit < lowest.threshold
            then lowest.threshold
        else '-infinity' end
from unnest($1::uuid[], $2::bigint[]) as i (id, token_limit), lowest
where t.id = i.id;

-- delete: states of definitions that are gone
delete from token_usage where id = any($1::uuid[]);

-- settled: note up to which state a quota has been compared
update quotas set settled = $2::text[], settled_period = $3 where name = $1;

-- ready: its states follow the quota
update quotas set phase = 'ready', seeding = false where name = $1;

-- forget: a quota that is gone, and what was to be shown of it
delete from quotas where name = $1 and phase = 'removed';

-- digest: one message to operators about the alerts that counting again has found
with found as (
    select a.*, a.tokens_used * 100.0::float8 / a.token_limit as percentage
    from alerts a
    where a.quota = $1 and a.seeded and a.started_at >= $2 and a.status = 'firing'
)
insert into notification_history (user_id, kind, transition, level, title, body, data)
select '', 'threshold', 'firing', max(level),
    format('%s: %s above a threshold', $1,
        case when count(*) = 1 then '1 counter is' else count(*) || ' counters are' end),
    'Found by counting the usage of before. Highest: ' || (
        select string_agg(
            format('%s %s %%', case when user_id <> '' then user_id
                else quotabell_name('reported', provider, model) end, trunc(percentage)), ', ')
        from (select * from found order by percentage desc, user_id limit 5) highest),
    jsonb_build_object('quota', $1, 'counters', count(*), 'seeded', true)
from found
having count(*) > 0;
