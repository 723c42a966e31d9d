-- Statements about how channels do (table channel_health), from what became of attempts.

-- looked: up to when attempts have been looked at, and now
select attempts_until, now() from rounds;

-- note: what attempts that ended since $1 tell; $2 is now. Given, not read here, since only then
-- is it known beforehand that they are few. One that an own receiver refused for
-- good is a failure of it; of Web Push only what would have been tried again is, the rest
-- concerns one browser. What is our own matter (an unknown channel, the database) tells nothing.
with ended as materialized (
    select d.channel, d.target, d.origin, d.id, a.ended_at, coalesce(a.reason, '') as reason,
        a.outcome in ('sent', 'gone') as good, a.outcome = 'failed' as refused
    from attempts a
    join deliveries d on d.id = a.delivery_id
    where a.started_at > $1::timestamptz - interval '1 minute'
        and a.ended_at > $1::timestamptz - interval '15 seconds'
        and a.outcome in ('sent', 'gone', 'retry', 'failed')
        and coalesce(a.reason, '') not in ('channel_missing', 'channel_removed', 'database')
), told as materialized (
    select s.*, e.ended_at, e.reason, e.good
    from ended e
    left join push_subscriptions p on p.id = case when e.channel = 'webpush' then e.target::uuid end
    cross join lateral (
        select e.channel || ' ' || e.target, null, e.channel, e.target, null
        where e.channel <> 'webpush'
        union all
        select 'webpush', null, 'webpush', null, null
        where e.channel = 'webpush' and not e.refused
        union all
        select 'webpush ' || e.origin, 'webpush', 'webpush', e.origin, null
        where e.channel = 'webpush' and not e.refused and e.origin <> ''
        union all
        select format('webpush %s key %s', e.origin, p.vapid_key_id), 'webpush ' || e.origin,
            'webpush', e.origin, p.vapid_key_id
        where p.vapid_key_id is not null and (e.good or e.reason like 'key\_%' and not e.refused)
    ) s (subject, within, channel, target, vapid_key_id)
), best as (
    select t.subject, greatest(max(t.ended_at) filter (where t.good), max(h.ok_at)) as ok_at
    from told t left join channel_health h using (subject)
    group by t.subject
), news as (
    select t.subject, max(t.within) as within, max(t.channel) as channel,
        max(t.target) as target, max(t.vapid_key_id) as vapid_key_id, max(b.ok_at) as ok_at,
        min(t.ended_at) filter (where bad) as failing_since,
        max(t.ended_at) filter (where bad) as failed_at,
        (array_agg(t.reason order by t.ended_at desc) filter (where bad))[1] as reason
    from told t
    join best b using (subject)
    cross join lateral (
        select not t.good and t.ended_at > coalesce(b.ok_at, '-infinity') as bad) f
    group by t.subject
), noted as (
    insert into channel_health as h (
        subject, within, channel, target, vapid_key_id, ok_at, failing_since, failed_at, reason)
    select * from news order by subject
    on conflict (subject) do update set
        ok_at = greatest(h.ok_at, excluded.ok_at),
        failing_since = case
            when h.failing_since > coalesce(excluded.ok_at, '-infinity')
                then least(h.failing_since, excluded.failing_since)
            else excluded.failing_since end,
        failed_at = greatest(h.failed_at, excluded.failed_at),
        reason = coalesce(excluded.reason, h.reason)
    where h.failing_since is not null or excluded.failing_since is not null
        or h.ok_at is null or h.ok_at < excluded.ok_at - interval '1 minute'
)
update rounds set attempts_until = greatest(attempts_until, $2::timestamptz);

-- failing: channels that have failed for longer than $1 while somebody tried, and whose alert does
-- not fire; not those that are a part of such a one
with bad as (
    select h.* from channel_health h
    where h.failing_since is not null
        and now() - h.failing_since - quotabell_unheard(h.failing_since) > $1::interval
)
select b.subject, b.failing_since, b.ok_at, coalesce(b.reason, '') as reason
from bad b
where not exists (select from bad w where w.subject = b.within)
    and not exists (
        select from bad v join bad w on w.subject = v.within
        where v.subject = b.within)
    and not exists (
        select from alerts a
        where a.state_id = quotabell_alert_subject_id('channel', b.subject) and a.kind = 'channel'
            and a.status = 'firing')
    and quotabell_channel_serves((select h from channel_health h where h.subject = b.subject))
order by b.subject;

-- over: alerts of channels that work again, or that nobody is reached by any more
select a.subject,
    case when h.failing_since is null and h.subject is not null then 'works again'
        when h.channel = 'webpush' then 'nobody subscribed'
        else 'channel removed' end as reason,
    h.ok_at
from alerts a
left join channel_health h on h.subject = a.subject
where a.kind = 'channel' and a.status = 'firing'
    and (h.subject is null or h.failing_since is null or not quotabell_channel_serves(h));

-- forget: what is not configured any more, and what nothing was heard of for a week; a channel that
-- comes back begins anew
delete from channel_health h
where greatest(h.ok_at, h.failed_at) < now() - interval '7 days' and not exists (
        select from alerts a
        where a.state_id = quotabell_alert_subject_id('channel', h.subject) and a.kind = 'channel'
            and a.status = 'firing')
    or h.channel <> 'webpush' and not exists (
        select from channels c where c.type = h.channel and c.name = h.target);

-- listed: channels of which something is known, as far as they are few, and whether their alert fires
select h.subject, a.id is not null as failing
from channel_health h
left join alerts a on a.state_id = quotabell_alert_subject_id('channel', h.subject)
    and a.kind = 'channel' and a.status = 'firing'
where h.within is null or a.id is not null
order by h.subject;
