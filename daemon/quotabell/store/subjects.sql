-- Statements about alerts whose subject is no quota state: a source, a channel.

-- fire: alerts that begin, unless they fire already; which did
with begun as (
    insert into alerts as a (
        state_id, kind, subject, user_id, quota, provider, model, level, tokens_used, data)
    select quotabell_alert_subject_id($1, g.subject), $1, g.subject, '', '', '', '', 0, 0, g.data::jsonb
    from unnest($2::text[], $3::text[]) as g (subject, data)
    -- A source that has reported meanwhile is not silent any more.
    where $1 <> 'stale' or exists (
        select from sources s
        where s.name = g.subject
            and s.last_event_at <= (g.data::jsonb ->> 'lastEventAt')::timestamptz)
    order by g.subject
    on conflict (state_id, kind) where status = 'firing' do nothing
    returning a as alert
), told as (
    select (alert).subject, quotabell_announce(alert) from begun
)
select subject from told;

-- resolve: alerts that end, with what is new of their facts; which did
with wanted as materialized (
    select a.id, g.reason, g.data::jsonb as data
    from unnest($2::text[], $3::text[], $4::text[]) as g (subject, reason, data)
    join alerts a on a.state_id = quotabell_alert_subject_id($1, g.subject) and a.kind = $1
        and a.status = 'firing'
    order by a.id
    for no key update of a skip locked
), ended as (
    update alerts a set status = 'resolved', reason = w.reason, seq = seq + 1,
        data = a.data || w.data, ended_at = now(), updated_at = now()
    from wanted w where a.id = w.id
    returning a as alert
), told as (
    select (alert).subject, quotabell_announce(alert) from ended
)
select subject from told;
