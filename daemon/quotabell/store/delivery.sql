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
--
-- What is given is read from a subquery, so that no plan is worth being made for it each time.
with recursive given as materialized (
    select $1::integer as batch, $4::text[] as origins, $5::integer[] as taken, $7::boolean as asked
), head as materialized (
    select origin from deliveries
    where open and status = 'pending' and asked = (select asked from given) and due <= now()
    order by due limit 400
), walk (n, origin) as (
    select 0, $9::text where (select count(*) from head) = 400
    union all
    select w.n + 1, (
        select d.origin from deliveries d
        where d.open and d.status = 'pending' and d.asked = (select asked from given)
            and d.origin > w.origin
        order by d.origin limit 1)
    from walk w where w.origin is not null and w.n < 64
), waiting as materialized (
    select w.origin, coalesce($2 - b.taken, $8) as room
    from (
        select origin from head
        union select origin from walk where n > 0
        union select unnest(origins) from given
    ) w
    left join (
        select unnest(origins) as origin, unnest(taken) as taken from given) b using (origin)
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
            select count(*) as messages, bool_or(e.status = 'leased') as busy,
                bool_or(e.status = 'pending' and not e.resolves and e.place < d.place) as earlier,
                max(e.place) filter (where e.status = 'pending' and e.tries > 0) as tried,
                max(e.episode) filter (where not e.resolves) as firing
            from deliveries e
            where e.lane = d.lane and e.open
        ) lane
        left join lateral (
            select e.place, e.resolves from deliveries e
            where e.lane = d.lane and e.arrived
            order by e.place desc limit 1
        ) last on true
        where d.open and d.status = 'pending' and d.asked = (select asked from given)
            and d.origin = w.origin and d.due <= now()
            and lane.busy is not true
            and (last.place > d.place or lane.firing > d.episode or d.expires_at <= now() or (
                coalesce(lane.tried <= d.place, true)
                and (not d.resolves or last.resolves is false or lane.earlier is not true)
                and (lane.messages < 2 or not exists (
                    select from deliveries e
                    where e.lane = d.lane and e.open
                        and e.place < d.place
                        and e.place >= greatest(lane.tried, last.place, 0)
                        and e.episode >= coalesce(lane.firing, e.episode)
                        and e.status = 'pending' and e.due <= now()))))
        order by d.due, d.id
        limit w.room
        for no key update of d skip locked
    ) d
    limit (select batch from given)
), leased as (
    -- By an array, which is taken for short: for a list of unknown length all would be read.
    update deliveries d set
        status = 'leased',
        -- Somebody may have set them back by hand, for the delivery to be tried again.
        tries = 1 + greatest(d.tries, (
            select max(a.n) from attempts a where a.delivery_id = d.id)),
        fence = d.fence + 1,
        lease_until = now() + $3::interval
    where d.id = any(array(select id from due where verdict = 'leased'))
    returning d.id, d.notification_id, d.channel, d.origin, d.status, d.tries, d.fence, d.lane
), closed as (
    update deliveries d set
        (status, reason) = (
            select v.verdict, case v.verdict
                when 'suppressed' then 'never told of the alert'
                when 'superseded' then null else d.reason end
            from due v where v.id = d.id),
        fence = d.fence + 1,
        finished_at = now()
    where d.id = any(array(select id from due where verdict <> 'leased'))
    returning d.id, d.notification_id, d.channel, d.origin, d.status
), tried as (
    insert into attempts (delivery_id, n, fence, worker, lane)
    select id, tries, fence, $6, lane from leased
)
select t.id, t.notification_id, t.channel, t.origin, t.status, t.fence, w.walked
from (select max(origin) filter (where n = 64) as walked from walk) w
left join (
    select id, null::uuid as notification_id, null as channel, origin, status, fence from leased
    union all select *, null from closed
) t on true;

-- claimed: all that it takes to send what was just claimed ($1), as long as the fences ($2) hold. It
-- looks later than the claim did: what a later message overtook in between is superseded if that
-- has arrived, else put back.
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
                where e.lane = c.lane and e.arrived and e.place > c.place)
            then true
            when exists (
                select from deliveries e
                where e.lane = c.lane and e.open
                    and e.status = 'pending' and e.tries > 0 and e.place > c.place)
            then false end as arrived
    ) l
    where c.id = any($1::bigint[]) and l.arrived is not null and d.id = c.id
        and d.fence = ($2::bigint[])[array_position($1::bigint[], d.id)]
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
where d.id = any($1::bigint[]) and d.fence = ($2::bigint[])[array_position($1::bigint[], d.id)];

-- reap: deliveries whose lease ran out are due again; what became of their attempt is unknown.
-- Also at once what worker $1 was sending when it died; and ($2) those whose attempt's row was
-- lost, for which all that is open is looked at. What somebody holds is left for later.
with ended as (
    select d.id, d.tries
    from attempts a join deliveries d on d.id = a.delivery_id and d.tries = a.n
    where a.outcome is null and d.status = 'leased' and (d.lease_until < now() or a.worker = $1)
    for no key update skip locked
), stray as (
    select d.id from deliveries d
    where $2 and d.open and d.status = 'leased' and d.lease_until < now() and not exists (
        select from attempts a
        where a.delivery_id = d.id and a.n = d.tries and a.outcome is null)
    for no key update skip locked
), lost as (
    update deliveries d set status = 'pending', due = now(), lease_until = null,
        fence = d.fence + 1
    where d.id = any(array(select id from ended union select id from stray))
), marked as (
    update attempts a set outcome = 'unknown', ended_at = now()
    from ended e where a.delivery_id = e.id and a.n = e.tries
), resumed as (
    delete from delivery_pauses where origin in (
        select origin from delivery_pauses where until <= now() for update skip locked)
)
select (select count(*) from ended) + (select count(*) from stray) as count;

-- release: give back claimed deliveries that were never sent, to be sent in so many seconds
with back as (
    update deliveries d set status = 'pending', due = now() + make_interval(secs => t.delay),
        lease_until = null, tries = d.tries - 1, fence = d.fence + 1
    from unnest($1::bigint[], $2::bigint[], $3::float8[]) as t (id, fence, delay)
    where d.id = t.id and d.fence = t.fence
    returning d.id, d.tries
)
delete from attempts a using back where a.delivery_id = back.id and a.n = back.tries + 1;

-- backlog: how many deliveries are open, and for how long the oldest due one has been (seconds),
-- or a message that is not yet made into deliveries
select (select count(*) from deliveries where open) as pending,
    coalesce(extract(epoch from now() - least(min(oldest.due), (
        select min(created_at) from notification_history
        where status = 'pending' and enqueued_at is null and created_at <= now()
    ))), 0)::float8 as oldest
from (values (false), (true)) as kinds (asked)
cross join lateral (
    select d.due from deliveries d
    where d.open and d.status = 'pending' and d.asked = kinds.asked and d.due <= now()
    order by d.due limit 1
) oldest;
