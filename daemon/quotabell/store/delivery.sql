-- Statements about deliveries and their attempts.
--
-- Rows are locked in one order everywhere: deliveries, notification_history; each sorted, or
-- skipped where somebody else works on them. What follows from how deliveries went is written
-- afterwards (settling.sql): whoever holds such a row must not hold up what is known of a send.

-- claim: take what is due, oldest first, of each origin at most $2 less what is taken there already
-- ($4, $5), of an origin that is not named at most $8: alerts, or what people asked for ($7). What
-- is taken gets a lease, a new fence and the row of the attempt that is about to be made.
--
-- Looked at are the origins named, those of what is due longest, and if these may not be all then
-- some more in turn, from $9 on: with thousands of origins waiting, not each of them every time.
--
-- The messages of a state and kind to a target are a lane: each replaces the one before it there.
-- They go one at a time, in order as far as they are due; once a later one has been tried, an
-- earlier one waits until that has arrived, and is superseded, or has failed. What is left of an
-- episode when the next one begins is superseded at once. The end of an alert goes only where the
-- last message told of one.
with recursive head as materialized (
    select origin from deliveries
    where status = 'pending' and asked = $7 and due <= now()
    order by due limit 400
), walk (n, origin) as (
    select 0, $9::text where (select count(*) from head) = 400
    union all
    select w.n + 1, (
        select d.origin from deliveries d
        where d.status = 'pending' and d.asked = $7 and d.origin > w.origin
        order by d.origin limit 1)
    from walk w where w.origin is not null and w.n < 64
), waiting as materialized (
    select w.origin, coalesce($2 - b.taken, $8) as room
    from (
        select origin from head
        union select origin from walk where n > 0
        union select * from unnest($4::text[])
    ) w
    left join unnest($4::text[], $5::integer[]) as b (origin, taken) using (origin)
    where coalesce($2 - b.taken, $8) > 0 and not exists (
        select from delivery_pauses p where p.origin = w.origin and p.until > now())
    order by random()
), due as materialized (
    select d.id, d.verdict
    from waiting w
    cross join lateral (
        select d.id, case
            when last.place > d.place or lane.firing > d.episode then 'superseded'
            when d.expires_at <= now() then 'expired'
            when d.resolves and last.resolves is not false then 'suppressed'
            else 'leased' end as verdict
        from deliveries d
        cross join lateral (
            select bool_or(e.status = 'leased') as busy,
                bool_or(e.status = 'pending' and not e.resolves and e.place < d.place) as earlier,
                max(e.place) filter (where e.status = 'pending' and e.tries > 0) as tried,
                max(e.episode) filter (where not e.resolves) as firing
            from deliveries e
            where e.lane = d.lane
                and e.status in ('pending', 'leased')
        ) lane
        left join lateral (
            select e.place, e.resolves from deliveries e
            where e.lane = d.lane and e.status = 'sent'
            order by e.place desc limit 1
        ) last on true
        where d.status = 'pending' and d.asked = $7 and d.origin = w.origin
            and d.due <= now()
            and lane.busy is not true
            and (last.place > d.place or lane.firing > d.episode or d.expires_at <= now() or (
                coalesce(lane.tried <= d.place, true)
                and (not d.resolves or last.resolves is false or lane.earlier is not true)
                and not exists (
                    select from deliveries e
                    where e.lane = d.lane
                        and e.status in ('pending', 'leased')
                        and e.place < d.place
                        and e.place >= greatest(lane.tried, last.place, 0)
                        and e.episode >= coalesce(lane.firing, e.episode)
                        and e.status = 'pending' and e.due <= now())))
        order by d.due, d.id
        limit w.room
        for no key update of d skip locked
    ) d
    limit $1
), taken as (
    update deliveries d set
        status = due.verdict,
        -- Somebody may have set them back by hand, for the delivery to be tried again.
        tries = case when due.verdict = 'leased' then 1 + greatest(d.tries, (
            select max(a.n) from attempts a where a.delivery_id = d.id)) else d.tries end,
        fence = d.fence + 1,
        lease_until = case when due.verdict = 'leased' then now() + $3::interval end,
        finished_at = case when due.verdict <> 'leased' then now() end,
        reason = case due.verdict
            when 'suppressed' then 'never told of the alert'
            when 'superseded' then null else d.reason end
    from due where d.id = due.id
    returning d.id, d.notification_id, d.channel, d.origin, d.status, d.tries, d.fence
), tried as (
    insert into attempts (delivery_id, n, fence, worker)
    select id, tries, fence, $6 from taken where status = 'leased'
)
select t.id, t.notification_id, t.channel, t.origin, t.status, w.walked
from (select max(origin) filter (where n = 64) as walked from walk) w
left join taken t on true;

-- claimed: all that it takes to send what was just claimed. It looks later than the claim did:
-- what a later message overtook in between is superseded if that has arrived, else put back.
with overtaken as (
    update deliveries d set
        status = case when l.arrived then 'superseded' else 'pending' end,
        tries = d.tries - 1, fence = d.fence + 1, lease_until = null,
        reason = case when not l.arrived then d.reason end,
        finished_at = case when l.arrived then now() end
    from deliveries c
    cross join lateral (
        select case
            when exists (
                select from deliveries e
                where e.lane = c.lane and e.status = 'sent' and e.place > c.place)
            then true
            when exists (
                select from deliveries e
                where e.lane = c.lane and e.status in ('pending', 'leased')
                    and e.status = 'pending' and e.tries > 0 and e.place > c.place)
            then false end as arrived
    ) l
    where c.id = any($1::bigint[]) and l.arrived is not null and d.id = c.id
    returning d.id, d.tries, d.status
), undone as (
    delete from attempts a using overtaken o where a.delivery_id = o.id and a.n = o.tries + 1
)
select d.id, d.notification_id::text, d.channel, d.target, d.origin, d.fence, d.tries, d.counted,
    extract(epoch from d.expires_at - now())::float8 as ttl, coalesce(o.status, d.status) as status,
    h.kind, h.transition, h.title, h.body, h.data, h.level, h.user_id, h.created_at,
    h.alert_id::text, d.channel = 'webpush' or exists (
        select from channels c where c.name = d.target and c.type = d.channel) as configured,
    greatest(0, least(1e9, extract(epoch from now()) - extract(epoch from h.created_at)))::float8
        as age,
    s.is_active, s.vapid_key_id, s.user_id as subscriber, s.subscription ->> 'endpoint' as endpoint,
    s.subscription #>> '{keys,p256dh}' as p256dh, s.subscription #>> '{keys,auth}' as auth
from deliveries d
join notification_history h on h.id = d.notification_id
-- A browser may have changed hands since: it is told what its present user may know, else nothing.
left join push_subscriptions s on s.id = case when d.channel = 'webpush' then d.target::uuid end
    and (s.user_id = h.user_id or (
        h.transition <> 'test' and not h.data @> '{"ownOnly": true}' and exists (
            select from (select coalesce(
                (select q.notify from quotas q where q.name = h.data ->> 'quota'),
                '{owner,operators}') as notify) audience
            where 'everyone' = any(notify) or (s.user_id = '' and 'operators' = any(notify)))))
left join overtaken o on o.id = d.id
where d.id = any($1::bigint[]);

-- acknowledge: what became of attempts, each only while its fence still holds. An origin's pause
-- counts in any case. What somebody holds is waited for, but not for long; or ($2) it is left alone
-- and returned without a status: one held delivery must not cost the others their leases.
with told as materialized (
    select t.* from json_to_recordset($1::json) as t (
        id bigint, fence bigint, status text, outcome text, http_status integer, reason text,
        delay float8, counts boolean, origin text, pause float8)
    cross join (select set_config('lock_timeout', '500ms', true)) bounded
), unlocked as materialized (
    select d.id from deliveries d
    where $2 and d.id in (select id from told)
    order by d.id
    for no key update skip locked
), free as materialized (
    select id from unlocked union all select id from told where not $2
), acked as (
    update deliveries d set
        status = t.status,
        due = case when t.status = 'pending' then now() + make_interval(secs => t.delay)
            else d.due end,
        counted = d.counted + t.counts::integer,
        fence = d.fence + 1,
        http_status = t.http_status,
        reason = t.reason,
        lease_until = null,
        finished_at = case when t.status <> 'pending' then now() end
    from told t join free using (id)
    where d.id = t.id and d.fence = t.fence
    returning d.id, d.notification_id, d.channel, d.target, d.tries, t.status, t.outcome,
        t.http_status, t.reason
), tried as (
    update attempts a set ended_at = now(), outcome = k.outcome, http_status = k.http_status,
        reason = k.reason
    from acked k where a.delivery_id = k.id and a.n = k.tries
), paused as (
    insert into delivery_pauses as p (origin, until, reason)
    select origin, now() + make_interval(secs => max(pause)), max(reason)
    from told where pause > 0 group by origin order by origin
    on conflict (origin) do update
        set until = greatest(p.until, excluded.until), reason = excluded.reason
)
select id, notification_id::text as notification,
    case when channel = 'webpush' then target end as subscription, status, outcome, reason
from acked
union all
select d.id, null, null, null, null, null
from deliveries d join told t on t.id = d.id and t.fence = d.fence
where not exists (select from free f where f.id = d.id);

-- reap: deliveries whose lease ran out are due again; what became of their attempt is unknown.
-- Also at once what worker $1 was sending when it died.
with ended as (
    select d.id from deliveries d
    where d.status = 'leased' and (d.lease_until < now() or exists (
        select from attempts a
        where a.delivery_id = d.id and a.n = d.tries and a.worker = $1))
    for no key update skip locked
), lost as (
    update deliveries d set status = 'pending', due = now(), lease_until = null,
        fence = d.fence + 1
    from ended where d.id = ended.id
    returning d.id, d.tries
), marked as (
    update attempts a set outcome = 'unknown', ended_at = now()
    from lost where a.delivery_id = lost.id and a.n = lost.tries
), resumed as (
    delete from delivery_pauses where until <= now()
)
select count(*) from lost;

-- release: give back claimed deliveries that were never sent
with back as (
    update deliveries d set status = 'pending', due = now(), lease_until = null,
        tries = d.tries - 1, fence = d.fence + 1
    from unnest($1::bigint[], $2::bigint[]) as t (id, fence)
    where d.id = t.id and d.fence = t.fence
    returning d.id, d.tries
)
delete from attempts a using back where a.delivery_id = back.id and a.n = back.tries + 1;

-- backlog: how many deliveries are open, and for how long the oldest due one has been (seconds),
-- or a message that is not yet made into deliveries
select p.pending + (select count(*) from deliveries where status = 'leased') as pending,
    coalesce(extract(epoch from now() - least(p.due, (
        select min(created_at) from notification_history
        where status = 'pending' and enqueued_at is null and created_at <= now()
    ))), 0)::float8 as oldest
from (
    select count(*) as pending, min(due) filter (where due <= now()) as due
    from deliveries where status = 'pending'
) p;
