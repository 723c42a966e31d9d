-- Statements about digests, and about deliveries that wait for another to end.

-- members: how many each digest tells of, and of these the $2 that are worst
select g.id, g.kind, g.ends, count(m.notification) as members,
    -- Only operators are told names of other users.
    (select user_id = '' from notification_history where id = g.id) as named,
    coalesce((
        select json_agg(worst.facts) from (
            select h.data || jsonb_build_object('userId', h.user_id, 'level', h.level) as facts
            from digest_members w join notification_history h on h.id = w.notification
            where w.digest = g.id and not w.superseded and jsonb_typeof(h.data) = 'object'
            order by h.level desc nulls last,
                case when jsonb_typeof(h.data -> 'percentage') = 'number'
                    then (h.data ->> 'percentage')::float8 end desc nulls last, h.user_id, h.id
            limit $2) worst), '[]')::text as worst,
    -- The message about the beginning of exactly these; this one replaces it.
    (
        select f.digest
        from digest_members e
        join digest_members f on f.state_id = e.state_id and f.kind = e.kind and f.place < e.place
            and not f.superseded and f.told_level is not null
        where g.ends and e.digest = g.id and not e.superseded
            and (select user_id from notification_history where id = f.digest)
                = (select user_id from notification_history where id = g.id)
        group by f.digest
        having count(distinct e.notification) = count(m.notification)
            and count(distinct e.notification) = (
                select count(*) from digest_members o where o.digest = f.digest and not superseded)
        order by max(f.place) desc limit 1
    ) as replaces
from digests g
left join digest_members m on m.digest = g.id and not m.superseded
where g.id = any ($1::uuid[])
group by g.id;

-- word: what a digest says
update notification_history set title = $2, body = $3, level = $4, data = $5::jsonb where id = $1;

-- dissolve: a digest that tells of nothing any more is not sent
update deliveries set status = 'superseded', fence = fence + 1, finished_at = now()
where notification_id = $1 and status = 'pending' and tries = 0
returning channel;

-- linger: digests that would close soon wait a little longer ($1, in all at most $2) while states
-- are yet to ring or to end, since a report has time for some thousands only. Counted from this
-- very moment, since the transaction that makes a digest may take longer than the digest waits.
with closing as materialized (
    select id, opened_at from digests
    where closes_at > now() and closes_at < clock_timestamp() + $1::interval and not held and awaits is null
        and opened_at + $2::interval > clock_timestamp() + $1::interval
), waiting as materialized (
    select case when exists (select from closing) then exists (
        select from token_usage
        where (percentage >= alert_at or percentage < resolve_at)
            and (period_end is null or period_end > now())) end as more
), unsent as materialized (
    select d.id, d.notification_id from closing c join deliveries d on d.notification_id = c.id
    where (select more from waiting) and d.status = 'pending' and d.tries = 0
    for no key update of d skip locked
), postponed as (
    update deliveries d set due = greatest(d.due, clock_timestamp() + $1::interval)
    where d.id = any (array(select id from unsent))
)
update digests g set closes_at = greatest(g.closes_at, clock_timestamp() + $1::interval)
where g.id = any (array(select notification_id from unsent));

-- resume: deliveries whose predecessor has ended go when its interval is over, or not at all
with over as materialized (
    -- The clock may have been set back since.
    select d.id, case when p.finished_at > now() then now() else p.finished_at end as finished_at,
        coalesce(p.status = 'sent' or exists (
            select from attempts a where a.delivery_id = p.id and a.outcome = 'unknown'
        ), false) as arrived,
        -- What fires again after an end was told is worse than what was told.
        ended.ends and not coalesce(own.ends, d.told_level is null) as worse,
        case when d.told_level > coalesce(last.told_level, -1) then null
            when last.finished_at > now() then now()
            else last.finished_at end as last_at
    from deliveries d
    left join deliveries p on p.id = d.waits_for
    left join digests ended on ended.id = p.notification_id
    left join digests own on own.id = d.notification_id
    left join lateral (
        select e.told_level, e.finished_at from deliveries e
        where e.lane = d.lane and e.arrived
        order by e.place desc limit 1
    ) last on true
    where d.open and d.status = 'pending' and d.waits_for is not null
        and coalesce(p.status not in ('pending', 'leased'), true)
    order by d.id
    limit 1000
    for no key update of d skip locked
), resumed as (
    update deliveries d set
        waits_for = null,
        due = t.due,
        expires_at = greatest(d.expires_at, t.due + interval '60 seconds'),
        status = case when o.arrived or d.waits_anyway then d.status else 'suppressed' end,
        reason = case when o.arrived or d.waits_anyway then d.reason
            else 'never told of the alert' end,
        finished_at = case when not (o.arrived or d.waits_anyway) then now() end
    from over o
    cross join (select min_interval from settings) s
    cross join lateral (select case when o.arrived and o.worse then now() else greatest(
        now(), case when o.arrived then o.finished_at else o.last_at end + s.min_interval
        ) end as due) t
    where d.id = o.id
    returning d.notification_id, d.channel, d.status
)
select notification_id, channel, status from resumed;
