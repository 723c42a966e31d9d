-- Statements about who reports (table sources).

-- lock: one replica at a time adds names, so that their bound holds
select pg_advisory_xact_lock($1);

-- add: add what was counted; names beyond the bound $1 go to 'other'
with given as (
    select * from unnest(
        $2::text[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[], $7::bigint[],
        $8::timestamptz[], $9::text[], $10::text[]
    ) as g (
        name, user_id, kind, events, last_event_at, rejected, last_rejected_at, last_error, signal)
), fresh as (
    select g.name, row_number() over (order by g.name collate "C")
        + (select count(*) from sources where name <> 'other') as place
    from (select distinct name from given where name <> 'other') as g
    where not exists (select from sources s where s.name = g.name)
), named as (
    select g.name, g.user_id, g.kind, g.events, g.last_event_at, g.rejected, g.last_rejected_at,
        g.last_error, g.signal
    from given g left join fresh f using (name)
    where coalesce(f.place, 0) <= $1::bigint
    union all
    select 'other', '', 'other', g.events, g.last_event_at, g.rejected, g.last_rejected_at,
        g.last_error, null
    from given g join fresh f using (name)
    where f.place > $1
)
insert into sources as s (
    name, user_id, kind, events, last_event_at, rejected, last_rejected_at, last_error, signal
)
select name, min(user_id), min(kind), sum(events), max(last_event_at), sum(rejected),
    max(last_rejected_at), (array_agg(last_error order by last_rejected_at desc nulls last))[1],
    max(signal)
from named
group by name
order by name collate "C"
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
    signal = coalesce(excluded.signal, s.signal);

-- listed: every source of a user, else everybody's, by name
select name, user_id, kind, first_seen, last_event_at, events, rejected, last_rejected_at,
    last_error, signal
from sources
where ($1::text is null or user_id = $1)
order by name;
