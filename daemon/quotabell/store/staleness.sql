-- Statements about sources that may have stopped.

-- silent: sources without a report for $1 at least (NULL: none) which may have been regular, and those
-- whose alert fires. Their longest pauses are of this block and the one before
select s.name, coalesce(s.reported_since, s.first_seen) as since, s.last_event_at as last,
    p.longest, p.until, p.second,
    now() - s.last_event_at - coalesce(o.unheard, '0') as silence,
    now() - r.heard_since as heard,
    coalesce(now() - r.watched_since, '0') as watched,
    case when s.last_rejected_at > s.last_event_at then s.last_rejected_at end as refused,
    a.id is not null as firing,
    (a.data ->> 'lastEventAt')::timestamptz as told_last,
    make_interval(secs => (a.data ->> 'allowed')::float8) as told_allowed
from sources s
cross join rounds r
left join alerts a on a.state_id = quotabell_alert_subject_id('stale', s.name) and a.kind = 'stale'
    and a.status = 'firing'
cross join lateral (
    select greatest(s.longest_pause, s.earlier_longest) as longest,
        case when s.earlier_longest > s.longest_pause or s.longest_pause is null
            then s.earlier_until else s.longest_until end as until,
        greatest(s.second_pause, s.earlier_second, least(s.longest_pause, case
            when s.longest_pause is not null then s.earlier_longest end)) as second) p
left join lateral (
    select sum(ended - greatest(began, s.last_event_at)) as unheard
    from outages where ended > s.last_event_at) o on true
where s.last_event_at is not null and (a.id is not null or
    s.last_event_at < now() - $1::interval and p.second is not null
        and s.last_event_at - s.reported_since >= 3 * $1::interval)
order by s.name;

-- gone: alerts of sources that are known no more
select a.subject from alerts a
where a.kind = 'stale' and a.status = 'firing'
    and not exists (select from sources s where s.name = a.subject and s.last_event_at is not null);
