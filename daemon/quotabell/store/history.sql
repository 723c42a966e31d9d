-- Statements about the history of notifications.

-- listed: notifications, newest first, with their deliveries and attempts
with page as (
    select id, user_id, kind, transition, level, title, body, data, status, error, alert_id, seq,
        created_at, sent_at
    from notification_history
    where ($1::text is null or user_id = $1)
        and ($2::text is null or status = $2)
        and ($3::timestamptz is null or (created_at, id) < ($3, $4::uuid))
    order by created_at desc, id desc
    limit $5
)
select page.*, coalesce((
    select json_agg(json_build_object(
        'channel', d.channel, 'name', case when d.channel <> 'webpush' then d.target end,
        'status', d.status, 'httpStatus', d.http_status,
        'reason', d.reason, 'due', d.due, 'finishedAt', d.finished_at,
        'attempts', coalesce((
            select json_agg(json_build_object(
                'n', a.n, 'startedAt', a.started_at, 'endedAt', a.ended_at,
                'outcome', a.outcome, 'httpStatus', a.http_status, 'reason', a.reason
            ) order by a.n)
            from attempts a where a.delivery_id = d.id), '[]'::json)
        ) order by d.id)
    from deliveries d where d.notification_id = any (array(
        select page.id union all
        select m.digest from digest_members m where m.notification = page.id))
    ), '[]'::json)::text as deliveries
from page
order by created_at desc, id desc;

-- test: a message that only shows that messages arrive
insert into notification_history (user_id, kind, transition, title, body, data)
values ($1, 'test', 'test', $2, $3, $4::jsonb)
returning id;

-- deliveries: those of a notification that was turned into them; one row without a channel if it
-- was turned into none, no row if it is yet to be
select d.channel, d.target, d.status, d.http_status, d.reason
from notification_history h left join deliveries d on d.notification_id = h.id
where h.id = $1 and h.enqueued_at is not null
order by d.channel, d.target;

-- resend: the message of a notification once more, to whoever it would go to now; to nobody but
-- its user if that is who asks
insert into notification_history (user_id, kind, transition, level, title, body, data)
select user_id, kind, transition, level, title, body,
    data || jsonb_build_object('resendOf', id, 'ownOnly', $2::text is not null)
from notification_history
where id = $1 and ($2::text is null or user_id = $2)
returning id;

-- hint: something is to be delivered
select pg_notify('quotabell', '');
