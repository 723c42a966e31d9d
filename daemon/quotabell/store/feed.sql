-- Statements about alerts as Alertmanager is told of them: by level, again and again.

-- firing: the next alerts that fire, after the one of this state and kind
select a.id, a.state_id, a.kind, a.status, a.user_id, a.quota, a.provider, a.model, a.level,
    a.tokens_used, a.token_limit, a.started_at, a.ended_at, a.subject, h.title, h.body,
    h.text, h.created_at as told_at
from alerts a
left join lateral (
    select title, body, data #>> '{words,operators,2}' as text, created_at, silence_id
    from notification_history
    where alert_id = a.id order by seq desc limit 1
) h on true
where a.status = 'firing' and (a.state_id, a.kind) > ($1, $2)
    -- What a silence has kept back altogether is not told here either.
    and (h.silence_id is null or exists (
        select from notification_history n where n.alert_id = a.id and n.silence_id is null))
order by a.state_id, a.kind
limit $3;

-- ended: the next alerts that ended in the last minutes, as long as none of the same name fires
select a.id, a.state_id, a.kind, a.status, a.user_id, a.quota, a.provider, a.model, a.level,
    a.tokens_used, a.token_limit, a.started_at, a.ended_at, a.subject, h.title, h.body,
    h.text, h.created_at as told_at
from alerts a
left join lateral (
    select title, body, data #>> '{words,operators,2}' as text, created_at, silence_id
    from notification_history
    where alert_id = a.id order by seq desc limit 1
) h on true
where a.status = 'resolved' and a.ended_at > now() - $1::interval and (a.ended_at, a.id) > ($2, $3)
    and not exists (
        select from alerts f
        where f.status = 'firing' and (f.user_id, f.quota, f.provider, f.model, f.kind, f.subject)
            = (a.user_id, a.quota, a.provider, a.model, a.kind, a.subject))
    -- What a silence has kept back altogether is not told here either.
    and (h.silence_id is null or exists (
        select from notification_history n where n.alert_id = a.id and n.silence_id is null))
order by a.ended_at, a.id
limit $4;

-- present: what is to be said of an alert now: that of the same name that fires, else itself
select a.id, a.state_id, a.kind, a.status, a.user_id, a.quota, a.provider, a.model, a.level,
    a.tokens_used, a.token_limit, a.started_at, a.ended_at, a.subject, h.title, h.body,
    h.text, h.created_at as told_at
from alerts o
cross join lateral (
    select * from alerts where id = o.id
    union all
    select * from alerts f
    where f.status = 'firing' and f.id <> o.id
        and (f.user_id, f.quota, f.provider, f.model, f.kind, f.subject)
            = (o.user_id, o.quota, o.provider, o.model, o.kind, o.subject)
) a
left join lateral (
    select title, body, data #>> '{words,operators,2}' as text, created_at, silence_id
    from notification_history
    where alert_id = a.id order by seq desc limit 1
) h on true
where o.id = $1
order by a.status = 'firing' desc, a.started_at desc
limit 1;
