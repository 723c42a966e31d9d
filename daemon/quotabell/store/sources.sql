-- Statements about who reports (table sources).

-- lock: one replica at a time adds names, so that their bound holds
select pg_advisory_xact_lock($1);

-- add: add what was counted; names beyond the bound $1 go to 'other'. The pause before a report ends
-- with it; of a pause that counts, the time in which nobody listened does not.
with given as (
    select * from unnest(
        $2::text[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[], $7::bigint[],
        $8::timestamptz[], $9::text[], $10::text[], $11::timestamptz[]
    ) as g (
        name, user_id, kind, events, last_event_at, rejected, last_rejected_at, last_error, signal,
        first_event_at)
), fresh as (
    select g.name, row_number() over (order by g.name collate "C")
        + (select count(*) from sources where name <> 'other') as place
    from (select distinct name from given where name <> 'other') as g
    where not exists (select from sources s where s.name = g.name)
), named as (
    select g.name, g.user_id, g.kind, g.events, g.last_event_at, g.rejected, g.last_rejected_at,
        g.last_error, g.signal, g.first_event_at
    from given g left join fresh f using (name)
    where coalesce(f.place, 0) <= $1::bigint
    union all
    select 'other', '', 'other', g.events, g.last_event_at, g.rejected, g.last_rejected_at,
        g.last_error, null, g.first_event_at
    from given g join fresh f using (name)
    where f.place > $1
), summed as (
    select name, min(user_id) as user_id, min(kind) as kind, sum(events) as events,
        max(last_event_at) as last_event_at, sum(rejected) as rejected,
        max(last_rejected_at) as last_rejected_at,
        (array_agg(last_error order by last_rejected_at desc nulls last))[1] as last_error,
        max(signal) as signal, min(first_event_at) as first_event_at
    from named
    group by name
), paused as (
    select n.*, coalesce(s.reported_since, n.first_event_at) as reported_since, p.pause,
        -- Blocks of two weeks hold two weekends at least; a slow source has a block a report.
        coalesce(p.pause is not null and s.pauses_since < now() - interval '14 days', false) as turns,
        s.longest_pause, s.longest_until, s.second_pause, s.earlier_longest, s.earlier_until,
        s.earlier_second, s.pauses_since
    from summed n
    left join sources s using (name)
    cross join lateral (select n.first_event_at - s.last_event_at as plain) l
    cross join lateral (select case
        when l.plain > '1 minute' then greatest(l.plain - quotabell_unheard(s.last_event_at), '0')
        when l.plain > '0' then l.plain end as pause) p
)
insert into sources as s (
    name, user_id, kind, events, last_event_at, rejected, last_rejected_at, last_error, signal,
    reported_since, longest_pause, longest_until, second_pause, earlier_longest, earlier_until,
    earlier_second, pauses_since
)
select p.name, p.user_id, p.kind, p.events, p.last_event_at, p.rejected, p.last_rejected_at,
    p.last_error, p.signal, p.reported_since,
    greatest(b.longest, p.pause),
    case when p.pause > b.longest or b.longest is null and p.pause is not null
        then p.first_event_at else b.until end,
    case when b.longest is not null and p.pause is not null
        then greatest(b.second, least(b.longest, p.pause)) else b.second end,
    case when p.turns then p.longest_pause else p.earlier_longest end,
    case when p.turns then p.longest_until else p.earlier_until end,
    case when p.turns then p.second_pause else p.earlier_second end,
    case when p.turns then now() else coalesce(p.pauses_since, now()) end
from paused p
cross join lateral (
    select case when not p.turns then p.longest_pause end as longest,
        case when not p.turns then p.longest_until end as until,
        case when not p.turns then p.second_pause end as second) b
order by p.name collate "C"
on conflict (name) do update set
    user_id = excluded.user_id,
    events = s.events + excluded.events,
    last_event_at = greatest(s.last_event_at, excluded.last_event_at),
    rejected = s.rejected + excluded.rejected,
    last_rejected_at = greatest(s.last_rejected_at, excluded.last_rejected_at),
    last_error = case
        when excluded.last_rejected_at >= coalesce(s.last_rejected_at, '-infinity')
            then excluded.last_error
        else s.last_error end,
    signal = coalesce(excluded.signal, s.signal),
    reported_since = excluded.reported_since,
    longest_pause = excluded.longest_pause,
    longest_until = excluded.longest_until,
    second_pause = excluded.second_pause,
    earlier_longest = excluded.earlier_longest,
    earlier_until = excluded.earlier_until,
    earlier_second = excluded.earlier_second,
    pauses_since = excluded.pauses_since;

-- listed: every source of a user, else everybody's, by name
select s.name, s.user_id, s.kind, s.first_seen, s.last_event_at, s.events, s.rejected,
    s.last_rejected_at, s.last_error, s.signal, a.started_at
from sources s
left join alerts a on a.state_id = quotabell_alert_subject_id('stale', s.name) and a.kind = 'stale'
    and a.status = 'firing'
where ($1::text is null or s.user_id = $1)
order by s.name;
