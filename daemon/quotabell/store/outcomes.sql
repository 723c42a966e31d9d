-- Statements about what became of attempts.
--
-- Written apart from what follows from it (settling.sql). Whoever holds a row holds up only what is
-- known of that one.

-- acknowledge: what became of attempts, each only while its fence still holds. What somebody holds
-- is waited for, but not for long.
with told as materialized (
    select t.* from json_to_recordset($1::json) as t (
        id bigint, fence bigint, status text, outcome text, http_status integer, reason text,
        delay float8, counts boolean)
    cross join (select set_config('lock_timeout', '500ms', true)) bounded
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
    from told t
    where d.id = t.id and d.fence = t.fence
    returning d.id, d.notification_id, d.channel, d.target, d.tries, t.status, t.outcome,
        t.http_status, t.reason
), tried as (
    update attempts a set ended_at = now(), outcome = k.outcome, http_status = k.http_status,
        reason = k.reason
    from acked k where a.delivery_id = k.id and a.n = k.tries
)
select id, notification_id::text as notification,
    case when channel = 'webpush' then target end as subscription, status, outcome, reason
from acked;

-- held: of deliveries those that somebody holds, or whose attempt somebody does, and the others
-- are locked, since one held row must not cost them their leases
with told as materialized (
    select d.id, d.tries from deliveries d where d.id = any($1::bigint[])
), tries as materialized (
    select a.delivery_id from attempts a
    where (a.delivery_id, a.n) in (select id, tries from told)
    order by a.delivery_id
    for no key update skip locked
), free as materialized (
    select d.id from deliveries d
    where d.id = any($1::bigint[])
    order by d.id
    for no key update skip locked
)
select t.id from told t
where not exists (select from free f where f.id = t.id) or (
    not exists (select from tries l where l.delivery_id = t.id)
    and exists (select from attempts a where a.delivery_id = t.id and a.n = t.tries));

-- pause: origins are left alone for so many seconds, or for as long as somebody has said already.
-- Those that somebody holds the rows of, which are not waited for.
with told as materialized (
    select origin, max(pause) as pause, max(reason) as reason
    from unnest($1::text[], $2::float8[], $3::text[]) as t (origin, pause, reason)
    group by origin
), free as materialized (
    select p.origin from delivery_pauses p
    where p.origin in (select origin from told)
    order by p.origin
    for no key update skip locked
), longer as (
    update delivery_pauses p
    set until = greatest(p.until, now() + make_interval(secs => t.pause)), reason = t.reason
    from told t join free f using (origin)
    where p.origin = t.origin
), begun as (
    insert into delivery_pauses (origin, until, reason)
    select t.origin, now() + make_interval(secs => t.pause), t.reason
    from told t
    cross join (select set_config('lock_timeout', '500ms', true)) bounded
    where not exists (select from delivery_pauses p where p.origin = t.origin)
    order by t.origin
    on conflict (origin) do update
        set until = greatest(delivery_pauses.until, excluded.until), reason = excluded.reason
)
select p.origin from delivery_pauses p
where p.origin in (select origin from told)
    and not exists (select from free f where f.origin = p.origin);
