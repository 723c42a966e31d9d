-- Statements about all that is known of one person, who is a user_id.

-- days: the days of events, oldest first, and how many pages each has
select to_date(right(c.relname, 8), 'YYYYMMDD') as day,
    pg_relation_size(c.oid) / current_setting('block_size')::bigint as pages
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'usage_events'::regclass and c.relname ~ '_[0-9]{8}$'
order by 1;

-- events: remove those of a person from some pages of a day; there is no index by user
with gone as (
    delete from usage_events
    where day = $2 and ctid >= $3::text::tid and ctid < $4::text::tid and user_id = $1
    returning 1
)
select count(*) from gone;

-- states: some of the quota states of a person
select id from token_usage where user_id = $1 order by id limit $2;

-- periods: some of the closed periods of a person
select id from usage_periods where user_id = $1 order by id limit $2;

-- samples: remove some samples of states
with few as (
    select state_id, time from usage_samples where state_id = any ($1::uuid[]) limit $2
), gone as (
    delete from usage_samples s using few
    where s.state_id = few.state_id and s.time = few.time
    returning 1
)
select count(*) from gone;

-- remove_states: remove quota states with their burn, and their alerts with them: a round of the
-- evaluator between the two would tell of their end. In the order of all writers
with held as materialized (
    select id from token_usage where id = any ($1::uuid[])
    order by user_id collate "C", quota collate "C", provider collate "C", model collate "C",
        period_start
    for update
), sampled as (
    delete from usage_samples where state_id in (select id from held)
), burnt as (
    delete from usage_burn where state_id in (select id from held)
), ended as (
    delete from alerts where state_id in (select id from held) returning 1
), gone as (
    delete from token_usage where id in (select id from held) returning 1
)
select (select count(*) from gone) as states, (select count(*) from ended) as alerts;

-- remove_periods: remove closed periods of a person
with gone as (
    delete from usage_periods where user_id = $1 and id = any ($2::uuid[]) returning 1
)
select count(*) from gone;

-- alerts: remove some of a person's
with gone as (
    delete from alerts where id = any (array(
        select id from alerts where user_id = $1 limit $2)) returning 1
)
select count(*) from gone;

-- history: remove some of a person's notifications, with their deliveries and attempts
with gone as (
    delete from notification_history where id = any (array(
        select id from notification_history where user_id = $1 limit $2)) returning 1
)
select count(*) from gone;

-- mentions: take a person out of operators' messages about what several share, which say who used
-- most ("alice 62 %"), and put $1 there. $3 and $4 find the name in text and in JSON
with told as (
    select id from notification_history
    where user_id = '' and (title ~ $3 or body ~ $3 or (data -> 'words')::text ~ $4)
    limit $2
), changed as (
    update notification_history h set
        title = regexp_replace(title, $3, '\1' || $1, 'g'),
        body = regexp_replace(body, $3, '\1' || $1, 'g'),
        data = case when data ? 'words' then jsonb_set(data, '{words}',
            regexp_replace((data -> 'words')::text, $4, '\1' || $1, 'g')::jsonb) else data end
    from told where h.id = told.id
    returning 1
)
select count(*) from changed;

-- digests: take the person $5 out of operators' messages about many alerts at once, and put $1 there
with told as (
    select id from notification_history
    where user_id = '' and data @> '{"digest": true}'
        and data -> 'members' @> jsonb_build_array(jsonb_build_object('userId', $5::text))
    limit $2
), changed as (
    update notification_history h set
        body = regexp_replace(body, $3, '\1' || $1, 'g'),
        data = data || jsonb_build_object(
            'words', regexp_replace((data -> 'words')::text, $4, '\1' || $1, 'g')::jsonb,
            'members', (
                select jsonb_agg(
                    case when m ->> 'userId' = $5 then m || '{"userId": null}' else m end)
                from jsonb_array_elements(data -> 'members') as m))
    from told where h.id = told.id
    returning 1
)
select count(*) from changed;

-- stale_history: remove messages about sources of a person that stopped reporting
with gone as (
    delete from notification_history where id = any (array(
        select id from notification_history
        where user_id = '' and kind = 'stale'
            and data ->> 'subject' in (select name from sources where user_id = $1) limit $2))
    returning 1
)
select count(*) from gone;

-- stale_alerts: remove alerts about sources of a person that stopped reporting
with gone as (
    delete from alerts where id = any (array(
        select id from alerts
        where kind = 'stale' and subject in (select name from sources where user_id = $1) limit $2))
    returning 1
)
select count(*) from gone;

-- subscriptions: remove some of a person's
with gone as (
    delete from push_subscriptions where id = any (array(
        select id from push_subscriptions where user_id = $1 limit $2)) returning 1
)
select count(*) from gone;

-- thresholds: remove some of a person's
with gone as (
    delete from token_thresholds where id = any (array(
        select id from token_thresholds where user_id = $1 limit $2)) returning 1
)
select count(*) from gone;

-- silences: remove some that a person made, or that are about nobody else
with gone as (
    delete from silences where id = any (array(
        select id from silences
        where user_id = $1 or matchers ->> 'userId' = $1 limit $2)) returning 1
)
select count(*) from gone;

-- totals: remove some of a person's running sums; nobody else's are made of them
with gone as (
    delete from token_totals where ctid = any (array(
        select ctid from token_totals where user_id = $1 limit $2)) returning 1
)
select count(*) from gone;

-- marks: remove some of how far series were counted that only a person's own tokens report
with own as (
    select split_part(name, '/', 1) as sender from sources group by 1
    having min(user_id) = $1 and max(user_id) = $1
), gone as (
    delete from series_marks where ctid = any (array(
        select m.ctid from series_marks m join own on own.sender = split_part(m.source, '/', 1)
        limit $2)) returning 1
)
select count(*) from gone;

-- signals: remove some of by which signals those count
with own as (
    select split_part(name, '/', 1) as sender from sources group by 1
    having min(user_id) = $1 and max(user_id) = $1
), gone as (
    delete from source_signals where ctid = any (array(
        select s.ctid from source_signals s join own on own.sender = split_part(s.source, '/', 1)
        limit $2)) returning 1
)
select count(*) from gone;

-- sources: remove some that report for a person only
with gone as (
    delete from sources where ctid = any (array(
        select ctid from sources where user_id = $1 limit $2)) returning 1
)
select count(*) from gone;

-- scopes: remove some of what is yet to be compared with a person's thresholds
with gone as (
    delete from rearm_scopes where id = any (array(
        select id from rearm_scopes where user_id = $1 limit $2)) returning 1
)
select count(*) from gone;

-- named: remove that a person has series in /metrics
with gone as (
    delete from metric_users where ctid = any (array(
        select ctid from metric_users where user_id = $1 limit $2)) returning 1
)
select count(*) from gone;

-- show_events: a person's events, as JSON
select (to_jsonb(e) - '{prev_input,prev_cache_read,prev_cache_write,prev_output,prev_reasoning,prev_other,prev_cost_usd,generation}'::text[])::text
from usage_events e where user_id = $1;

-- show_totals: a person's running sums, as JSON
select to_jsonb(t)::text from token_totals t where user_id = $1;

-- show_states: a person's quota states, as JSON
select (to_jsonb(t) - '{prev_reported_at,prev_used,generation,alert_at,resolve_at}'::text[])::text
from token_usage t where user_id = $1;

-- show_periods: a person's closed periods, as JSON
select to_jsonb(p)::text from usage_periods p where user_id = $1;

-- show_samples: the samples of a person's states, as JSON
select to_jsonb(s)::text from usage_samples s
where state_id in (
    select id from token_usage where user_id = $1
    union all select id from usage_periods where user_id = $1);

-- show_alerts: a person's alerts, as JSON
select to_jsonb(a)::text from alerts a where user_id = $1;

-- show_history: a person's notifications with their deliveries, as JSON
select (to_jsonb(h) || jsonb_build_object('deliveries', coalesce((
    select jsonb_agg((to_jsonb(d) - '{fence,lane,place,lease_until,counted,asked}'::text[])
        || jsonb_build_object('attempts', coalesce((
            select jsonb_agg(to_jsonb(t) - '{fence,worker}'::text[] order by t.n)
            from attempts t where t.delivery_id = d.id), '[]')) order by d.id)
    from deliveries d where d.notification_id = h.id and d.channel = 'webpush'), '[]')))::text
from notification_history h where user_id = $1;

-- show_subscriptions: a person's browsers without what could be used to reach them, as JSON
select (to_jsonb(s) - '{subscription,endpoint_hash}'::text[] || jsonb_build_object('origin',
    substring(subscription ->> 'endpoint' from '^(https?://[^/?#@\\]+)(?:[/?#]|$)')))::text
from push_subscriptions s where user_id = $1;

-- show_thresholds: a person's thresholds, as JSON
select to_jsonb(t)::text from token_thresholds t where user_id = $1;

-- show_silences: silences that a person made, or that are about nobody else, as JSON
select to_jsonb(s)::text from silences s where user_id = $1 or matchers ->> 'userId' = $1;

-- show_sources: sources that report for a person only, as JSON
select to_jsonb(s)::text from sources s where user_id = $1;
