-- Statements about alerts: the level check that makes good what the trigger missed.

-- ring_due: ring states that crossed unseen, that claim an alert which does not exist or have
-- one without claiming it, and alerts whose limit became unknown or whose period is over. Skips
-- what somebody holds, so it never waits for a writer, and the states of $2
with due as materialized (
    select t.id
    from token_usage t
    left join alerts a on a.state_id = t.id and a.kind = 'threshold' and a.status = 'firing'
    where (t.percentage >= t.alert_at
            or t.percentage < t.resolve_at
            or (t.resolve_at > '-infinity') <> (a.id is not null)
            or (a.id is not null and (t.percentage is null or t.period_end <= now())))
        and t.id <> all($2::uuid[])
), locked as materialized (
    -- Limited here, so that what somebody holds never fills a batch; and apart from the search,
    -- since a limit would talk the planner out of the one scan.
    select t.id from token_usage t join due using (id) limit $1 for no key update of t skip locked
), tried as materialized (
    select id, quotabell_ring_safely(id) as rung from locked
)
select least($1, (select count(*) from due)) as due,
    count(*) as tried,
    count(*) filter (where rung) as rung,
    coalesce(array_agg(id) filter (where not rung), '{}') as failed
from tried;

-- reannounce: transitions whose row in the history was lost before it was sent. Only of late:
-- the history is also aged out
with lost as materialized (
    select a as alert
    from alerts a
    where a.announced_seq < a.seq and a.updated_at > now() - interval '1 day'
        and not exists (
            select from notification_history h where h.alert_id = a.id and h.seq = a.seq)
    limit $1
    for no key update of a skip locked
)
select quotabell_announce(alert) from lost;

-- end_orphans: alerts whose quota state was deleted have ended
with ended as (
    update alerts a set status = 'resolved', reason = 'usage removed', seq = seq + 1,
        ended_at = now(), updated_at = now()
    where id in (
        select o.id from alerts o
        where o.status = 'firing' and o.kind in ('threshold', 'forecast')
            and not exists (select from token_usage t where t.id = o.state_id)
        limit $1
        for no key update skip locked)
    returning a as alert
)
select quotabell_announce(alert) from ended;

-- rearm: compare a batch of states anew whose thresholds changed; how many, NULL: nothing to do
select quotabell_rearm($1) as states;

-- rearm_pending: scopes whose states are to be compared anew
select count(*) as scopes from rearm_scopes;
