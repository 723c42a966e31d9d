-- Statements that turn notifications into deliveries.
--
-- Who is told of what, and when, is decided here; that a message then goes is up to the claim.

-- alone: whoever makes digests is the only one to do so
select pg_advisory_xact_lock(hashtextextended('quotabell digests', 0));

-- enqueue: turn up to $1 pending notifications, alerts first (or only of $2), into a delivery for each
-- subscription of its user and of operators (no user), or of whom its quota says; a test goes to
-- its own user's only, or to the channels that it names. And into one for each other channel that
-- is for it. A message whose alert has vanished is never sent. The alerts are not locked: no report
-- ever waits for delivery.
--
-- What is told to a target depends on what it was told of the state and kind before ("was"), and on
-- what is under way to it ("block"). An end goes only where the alert was told, and waits for what
-- is under way. With an interval, what has not begun to go gives way to what is newer, and what is
-- not worse than what was told waits until the interval is over. Of what was made late, after newer
-- messages, nobody is told. The database's clock may have been set back since what is past.
--
-- More than $3 alerts of a kind for one target become one delivery of a digest, which later ones
-- join until none came for $5 (of hundreds: $6), or for five times that. What has something in its lane before it stays
-- there, where order is kept. That takes the lock (alone), which $4 says is held; without it, nothing is
-- done where a digest may have to be made or changed, and one row ("crowd") says so.
-- The disk is not waited for: what a crash takes back is still to be done, and the commit of a claim
-- takes all that came before it along.
with policy as materialized (
    select min_interval as pause, min_interval > '0' as damped,
        set_config('synchronous_commit', 'off', true)
    from settings limit 1
), crowd as materialized (
    select (
        select count(*) filter (where rings) > $3::integer from (
            select alert_id is not null as rings from notification_history
            where status = 'pending' and enqueued_at is null
            order by alert_id is null, created_at, id limit $3::integer + 1) waiting
    ) or exists (select from digests where closes_at > now()) as yes
), candidates as materialized (
    select h.id, h.user_id, h.alert_id, h.seq, h.transition, h.data, h.level, h.created_at, h as row
    from notification_history h
    where h.status = 'pending' and h.enqueued_at is null and ($2::uuid[] is null or h.id = any ($2))
        and ($4::boolean or not (select yes from crowd))
        -- Who is told of the end depends on the deliveries of what came before it.
        and (h.transition <> 'resolved' or (select damped from policy) or not exists (
            select from (
                select status, enqueued_at from notification_history e
                where e.alert_id = h.alert_id and e.seq < h.seq offset 0) e
            where e.status = 'pending' and e.enqueued_at is null))
    order by h.alert_id is null, h.created_at, h.id
    limit $1
    for no key update skip locked
), picked as materialized (
    select c.*, c.alert_id is not null and a.id is null as orphan,
        -- Of several that nobody has heard of, the last says all.
        y.damped and a.id is not null and (a.episode, c.seq) < (
            last_value(a.episode) over latest, last_value(c.seq) over latest) as outdone,
        c.alert_id is not null and c.transition = 'resolved' as resolves,
        a.state_id, a.kind, a.episode,
        case when c.transition <> 'resolved' and a.id is not null then coalesce(c.level, 0) end
            as told_level,
        a.episode << 24 | least(c.seq, 16777215) as place,
        array[
            case when o.browsers and (o.only or 'owner' = any(o.notify)) then c.user_id end,
            case when not o.only and 'operators' = any(o.notify) then '' end] as recipients,
        not o.only and 'everyone' = any(o.notify) as everyone,
        case when a.id is not null then
            quotabell_silence(a.provider, a.model, a.user_id, a.quota, a.kind) end as silence_id,
        -- However late it is sent, it is old news then.
        least(c.created_at + interval '24 hours',
            greatest(c.created_at + interval '60 seconds', coalesce(u.period_end, 'infinity'))
        ) as expires_at
    from candidates c
    cross join policy y
    left join alerts a on a.id = c.alert_id
    left join token_usage u on u.id = a.state_id
    left join quotas q on q.name = c.data ->> 'quota'
    cross join lateral (
        select c.transition = 'test' or c.data @> '{"ownOnly": true}' as only,
            coalesce(q.notify, '{owner,operators}') as notify,
            coalesce(c.data -> 'channels' ?| '{*,webpush}', true) as browsers) o
    -- What somebody else is turning into deliveries just now comes first.
    where not y.damped or c.alert_id is null or not exists (
        select from (
            -- By its alert: in a storm the index of what waits is as long as the storm.
            select id, status, enqueued_at from notification_history e
            where e.alert_id = c.alert_id and e.seq < c.seq offset 0) e
        where e.status = 'pending' and e.enqueued_at is null
            and e.id not in (select id from candidates))
    window latest as (
        partition by a.state_id, a.kind order by a.episode, c.seq
        rows between unbounded preceding and unbounded following)
), pairs as materialized (
    select p.*, s.channel, s.target, s.origin, s.subscriber, s.lane,
        y.damped and s.channel <> 'alertmanager' and p.state_id is not null as damped, y.pause
    from picked p
    cross join policy y
    cross join lateral (
        select told.*,
            md5(p.state_id::text || '/' || p.kind || '/' || channel || '/' || target)::uuid as lane
        from (
            select 'webpush' as channel, id::text as target, coalesce(left(
                substring(subscription ->> 'endpoint' from '^https?://[^/?#]+'), 200), '') as origin,
                user_id as subscriber
            from (
                select id, subscription, user_id from push_subscriptions
                where is_active and user_id = any (p.recipients)
                union all
                select id, subscription, user_id from push_subscriptions
                where p.everyone and is_active and (user_id = any (p.recipients)) is not true
            ) browsers
            union all
            select channel, target, origin, '' from quotabell_channels(p.row)
            where (select exists (select from channels))
        ) told
    ) s
    where not p.orphan and not p.outdone
), idle as materialized (
    -- Locked, so that nobody begins to send it: what somebody holds is under way.
    select d.id, d.notification_id, d.channel, d.lane, d.place from deliveries d
    where d.lane = any (array(select lane from pairs where damped))
        and d.open and d.status = 'pending' and d.tries = 0
    for no key update skip locked
), given_way as materialized (
    select i.* from idle i join pairs p using (lane) where p.damped and i.place < p.place
), unsent as materialized (
    select d.id, d.notification_id as digest, d.channel, d.target
    from digests g
    join deliveries d on d.notification_id = g.id
    where $4 and g.closes_at > now() and d.status = 'pending' and d.tries = 0
    for no key update of d skip locked
), untold as materialized (
    -- Digests that nobody has heard of yet.
    select digest, count(*) as targets from unsent u
    group by digest
    having count(*) = (select count(*) from deliveries d where d.notification_id = u.digest)
), left_out as materialized (
    select m.digest, m.notification
    from pairs p
    join digest_members m on m.state_id = p.state_id and m.kind = p.kind and m.place < p.place
        and not m.superseded
    join untold t using (digest)
    join unsent u on u.digest = m.digest and u.channel = p.channel and u.target = p.target
    where p.damped
    group by m.digest, m.notification, t.targets
    having count(distinct u.id) = t.targets
), judged as materialized (
    select p.*, block.id as block_id, block.notification_id as block_notification,
        block.id is not null and not block.digested as behind,
        case
            when p.state_id is null then true
            when later.told then false
            when not p.resolves then true
            when block.id is not null and p.damped then block.told_level is not null
            else coalesce(block.told_level, was.told_level) is not null end as goes,
        block.id is not null and case
            when p.resolves then p.damped or block.digested
            when block.digested and block.told_level is null then true
            else p.damped and p.told_level <= coalesce(block.told_level, -1) end as parked,
        case
            when not p.damped or block.id is not null then now()
            when p.told_level > coalesce(was.told_level, -1) then now()
            else greatest(now(), was.at + p.pause) end as due,
        not p.resolves or was.told_level is not null as anyway,
        p.resolves and was.digested is not true
            and not (block.id is not null and (p.damped or block.digested)) as by_lane,
        block.expires_at as block_expires_at
    from pairs p
    left join lateral (
        select place, told_level, digested, case when at > now() then now() else at end as at
        from (
            (select d.place, d.told_level, d.finished_at as at, false as digested
            from deliveries d
            where d.lane = p.lane and d.arrived and d.place < p.place
            order by d.place desc limit 1)
            union all
            (select d.place, d.told_level, d.finished_at, false
            from deliveries d
            where d.lane = p.lane and not d.open and not d.arrived and d.place < p.place
                and d.status in ('failed', 'expired') and exists (
                    select from attempts a where a.delivery_id = d.id and a.outcome = 'unknown')
            order by d.place desc limit 1)
            union all
            (select m.place, m.told_level, d.finished_at, true
            from digest_members m
            join deliveries d on d.notification_id = m.digest and d.channel = p.channel
                and d.target = p.target
            where m.state_id = p.state_id and m.kind = p.kind and m.place < p.place
                and not m.superseded and (d.status = 'sent'
                    or d.status in ('failed', 'expired') and exists (
                        select from attempts a
                        where a.delivery_id = d.id and a.outcome = 'unknown'))
            order by m.place desc limit 1)
        ) told
        order by place desc limit 1
    ) was on p.state_id is not null
    left join lateral (
        select * from (
            select d.id, d.notification_id, d.place, d.told_level, d.expires_at, false as digested
            from deliveries d
            where d.lane = p.lane and d.open and d.place < p.place
                and d.id <> all (array(select id from given_way))
            union all
            select d.id, d.notification_id, m.place, m.told_level, d.expires_at, true
            from digest_members m
            join deliveries d on d.notification_id = m.digest and d.channel = p.channel
                and d.target = p.target
            where m.state_id = p.state_id and m.kind = p.kind and m.place < p.place
                and not m.superseded and d.open
                and (m.digest, m.notification) not in (select * from left_out)
        ) open
        where open.place > coalesce(was.place, 0)  -- else it has been overtaken
            -- But one about many goes nevertheless, and no end is told before it.
            or p.resolves and open.digested and open.told_level is not null
        order by place desc limit 1
    ) block on p.state_id is not null
    cross join lateral (
        select exists (
            select from deliveries d where d.lane = p.lane and d.open and d.place > p.place
        ) or exists (
            select from deliveries d where d.lane = p.lane and d.arrived and d.place > p.place
        ) or exists (
            select from digest_members m
            join deliveries d on d.notification_id = m.digest and d.channel = p.channel
                and d.target = p.target
            where m.state_id = p.state_id and m.kind = p.kind and m.place > p.place
                and not m.superseded and (d.open or d.arrived)
        ) as told
    ) later
), timed as materialized (
    select id, channel, target, origin, subscriber, state_id, kind, episode, seq, place, alert_id,
        told_level, level, resolves, silence_id, by_lane, parked, anyway, created_at,
        case when parked then block_id end as waits_for,
        case when parked then block_notification end as awaits,
        not parked and due > now() as held, behind and not parked as in_lane,
        case when parked then greatest(expires_at, block_expires_at) + pause + interval '60 seconds'
            when due > now() then greatest(expires_at, due + interval '60 seconds')
            else expires_at end as expires_at,
        case when parked
            then greatest(expires_at, block_expires_at) + pause + interval '60 seconds'
            else due end as due
    from judged
    where goes
), joining as materialized (
    select g.*, u.channel, u.target
    from digests g join unsent u on u.digest = g.id
), counted as materialized (
    select t.*, j.id as joins, state_id is not null and silence_id is null
        and channel <> 'alertmanager' and not in_lane and (j.id is not null or count(*) over (
            partition by channel, target, t.kind, resolves, t.held, t.awaits, in_lane,
                silence_id is null, state_id is null) > $3) as grouped
    from timed t
    left join lateral (
        select j.id from joining j
        where (j.channel, j.target, j.kind, j.ends, j.held)
                = (t.channel, t.target, t.kind, t.resolves, t.held)
            and j.awaits is not distinct from t.awaits
            and (not t.held or t.due <= j.opened_at + (select pause from policy))
        order by j.opened_at limit 1
    ) j on true
), made as (
    insert into deliveries (
        notification_id, channel, target, origin, state_id, kind, episode, seq, resolves,
        told_level, waits_for, waits_anyway, asked, due, expires_at,
        status, finished_at, reason)
    select id, channel, target, origin, state_id, kind, episode, seq, by_lane,
        told_level, waits_for, waits_for is not null and anyway, alert_id is null, due, expires_at,
        case when silence_id is null then 'pending' else 'suppressed' end,
        case when silence_id is not null then now() end,
        case when silence_id is not null then 'silenced' end
    from counted where not grouped
    on conflict (notification_id, channel, target) do nothing
    returning notification_id
), crowded as materialized (
    select channel, target, origin, subscriber, kind, resolves, held, awaits, joins,
        min(waits_for) as waits_for, bool_and(anyway) as anyway, min(created_at) as created_at,
        max(due) as due, max(expires_at) as expires_at, array_agg(id order by id) as ids
    from counted where grouped
    group by channel, target, origin, subscriber, kind, resolves, held, awaits, joins
), audiences as materialized (
    -- Those who are told of the same share a digest.
    select s.*, case when s.joins is not null and s.targets = t.targets then s.joins
        else gen_random_uuid() end as digest,
        -- Of so many, some may be yet to ring: the evaluator does what a report had no time for.
        case when cardinality(s.ids) + (
            select count(*) from digest_members m where m.digest = s.joins
        ) >= 500 then $6::interval else $5::interval end as gather
    from (
        select subscriber, kind, resolves, held, awaits, joins, md5(ids::text) as same,
            min(ids) as ids, count(*) as targets, max(due) as due, min(created_at) as created_at
        from crowded
        group by subscriber, kind, resolves, held, awaits, joins, md5(ids::text)
    ) s
    left join untold t on t.digest = s.joins
), recorded as (
    insert into notification_history (
        id, user_id, kind, transition, title, body, status, enqueued_at, created_at)
    select a.digest, a.subscriber, a.kind, case when a.resolves then 'resolved' else 'firing' end,
        '', '', 'pending', now(), a.created_at
    from audiences a where a.digest is distinct from a.joins
), opened as (
    insert into digests (id, kind, ends, held, awaits, closes_at)
    select digest, kind, resolves, held, awaits,
        case when held then due else now() + gather end
    from audiences where digest is distinct from joins
), extended as (
    update digests g set
        closes_at = case when g.held then greatest(g.closes_at, a.due)
            else least(now() + a.gather, g.opened_at + 5 * a.gather) end
    from audiences a
    where g.id = any (array(select joins from audiences)) and g.id = a.digest and a.joins = a.digest
    returning g.id, g.closes_at, g.awaits
), postponed as (
    update deliveries d set
        due = case when e.awaits is null then e.closes_at else d.due end,
        expires_at = greatest(d.expires_at, e.closes_at + interval '60 seconds')
    from extended e
    where d.notification_id = any (array(select id from extended)) and d.notification_id = e.id
), sent_together as (
    insert into deliveries (
        notification_id, channel, target, origin, waits_for, waits_anyway, asked, due, expires_at)
    select a.digest, c.channel, c.target, c.origin, c.waits_for, c.waits_for is not null and c.anyway,
        false, case when c.held or c.waits_for is not null then c.due else now() + a.gather end,
        c.expires_at
    from audiences a
    join crowded c on (c.subscriber, c.kind, c.resolves, c.held, md5(c.ids::text))
            = (a.subscriber, a.kind, a.resolves, a.held, a.same)
        and c.awaits is not distinct from a.awaits and c.joins is not distinct from a.joins
    where a.digest is distinct from a.joins
), members as (
    insert into digest_members (digest, notification, state_id, kind, place, told_level)
    select a.digest, p.id, p.state_id, p.kind, p.place, p.told_level
    from audiences a
    cross join unnest(a.ids) as told (id)
    join picked p using (id)
    on conflict do nothing
    returning notification
), overtaken as (
    update deliveries d set status = 'superseded', fence = fence + 1, finished_at = now()
    where d.id = any (array(select id from given_way))
    returning d.notification_id, d.channel
), left_off as (
    update digest_members m set superseded = true
    from left_out l where m.digest = l.digest and m.notification = l.notification
    returning m.digest, m.notification
), enqueued as (
    update notification_history h set
        enqueued_at = now(),
        silence_id = p.silence_id,
        status = case when n.notification is not null and p.silence_id is null then 'pending'
            else 'suppressed' end,
        error = case
            when z.id is not null then left(format('silenced by %s: %s', z.author, z.reason), 300)
            when n.notification is not null then null
            when p.orphan then 'the alert is gone'
            when p.outdone then 'superseded' else 'nobody to tell' end
    from picked p
    left join (
        select notification_id as notification from made union select notification from members
    ) n on n.notification = p.id
    left join silences z on z.id = p.silence_id
    where h.id = p.id
    returning h.id
)
select 'done' as what, id, null as channel from enqueued
union all
select 'crowd', null, null from crowd where yes and not $4
union all
select 'superseded', notification_id, channel from overtaken
union all
select 'superseded', notification, null from left_off
union all
select 'digest', digest, null from audiences
union all
select 'digest', digest, null from left_off;

-- oldest: the notification that is the next to be turned into deliveries
select h.id from notification_history h
where h.status = 'pending' and h.enqueued_at is null
    and (h.transition <> 'resolved' or not exists (
        select from notification_history e
        where e.alert_id = h.alert_id and e.seq < h.seq
            and e.status = 'pending' and e.enqueued_at is null))
order by h.alert_id is null, h.created_at, h.id
limit 1
for no key update skip locked;

-- refuse: give up a notification that cannot be turned into deliveries
update notification_history set enqueued_at = now(), status = 'failed', error = $2
where id = $1;
