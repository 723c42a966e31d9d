-- What follows from how deliveries went, for their notifications and subscriptions.
--
-- Written after the deliveries were committed, and never waiting for a lock: rows that somebody
-- holds are skipped, and tried again later.

-- follow: notifications of which a delivery arrived are sent, and what a digest told of; subscriptions that are gone end, those
-- made with another key say so until one arrives, the others had their last success now. The ids of what is left to do because somebody holds it.
with told as materialized (
    select * from json_to_recordset($1::json) as t (
        notification uuid, subscription uuid, status text, outcome text, reason text)
), arrived as materialized (
    select id from notification_history
    where status <> 'sent' and id in (
        select notification from told where status = 'sent'
        union
        select m.notification from told t join digest_members m on m.digest = t.notification
        where t.status = 'sent' and not m.superseded)
    order by id
    for no key update skip locked
), sent as (
    update notification_history h set status = 'sent', sent_at = now(), error = null
    from arrived a where h.id = a.id
), concerned as materialized (
    select distinct on (subscription) subscription as id, outcome, reason from told
    where outcome in ('sent', 'gone') or reason like 'key\_mismatch%'
    order by subscription, outcome <> 'gone', outcome
), wanted as materialized (
    select c.*
    from concerned c
    join push_subscriptions p on p.id = c.id
    where case c.outcome when 'gone' then p.is_active
        when 'sent' then p.reason = 'key_mismatch'
            -- To the minute is enough: a busy browser's row is not written for every message.
            or coalesce(p.last_success_at < now() - interval '1 minute', true)
        else p.is_active and p.reason is distinct from 'key_mismatch' end
), free as materialized (
    select p.id, w.outcome, w.reason
    from wanted w
    join push_subscriptions p on p.id = w.id
    order by p.id
    for no key update of p skip locked
), subscribed as (
    update push_subscriptions s set
        last_success_at = case when f.outcome = 'sent' then now() else s.last_success_at end,
        is_active = s.is_active and f.outcome <> 'gone',
        reason = case when f.outcome = 'gone' then f.reason
            when f.outcome <> 'sent' then 'key_mismatch'
            when s.reason = 'key_mismatch' then null else s.reason end
    from free f where s.id = f.id
)
select h.id::text from notification_history h
where h.id in (select notification from told where status = 'sent') and h.status <> 'sent'
    and not exists (select from arrived a where a.id = h.id)
union all
select w.id::text from wanted w where not exists (select from free f where f.id = w.id);

-- hold: those of the notifications that are still open, and whether they could be locked. Two that
-- end the last two deliveries of one must not each see the other's as open: the first to look here
-- again afterwards sees both. What a digest tells of ends with it.
with concerned as materialized (
    select unnest($1::uuid[]) as id
    union
    select notification from digest_members where digest = any($1::uuid[])
), held as materialized (
    select id from notification_history
    where id in (select id from concerned) and status = 'pending'
    order by id
    for no key update skip locked
)
select h.id, held.id is not null as held
from notification_history h left join held using (id)
where h.id in (select id from concerned) and h.status = 'pending';

-- settle: a notification none of whose deliveries is open is sent, failed or suppressed. One whose
-- deliveries were deleted has reached nobody as far as is known: it is made into deliveries anew. A
-- repetition that was too late before anybody tried to send it is no failure: it had been told.
update notification_history h set
    status = case when d.total = 0 then h.status when d.sent then 'sent'
        when d.failed or d.late and not h.data ? 'repeat' then 'failed' else 'suppressed' end,
    sent_at = case when d.sent then now() else h.sent_at end,
    enqueued_at = case when d.total = 0 then null else h.enqueued_at end,
    error = case when d.sent then null else d.reason end
from unnest($1::uuid[]) as wanted (id)
cross join lateral (
    select count(*) as total, bool_or(status = 'sent') as sent,
        bool_or(status = 'failed' or status = 'expired' and reason is not null) as failed,
        bool_or(status = 'expired') as late,
        bool_or(status in ('pending', 'leased')) as open,
        coalesce(
            max(coalesce(reason, status)) filter (where status in ('failed', 'expired')),
            max(coalesce(reason, status))) as reason
    from notification_deliveries where notification = wanted.id
) d
where h.id = wanted.id and h.status = 'pending' and (d.sent or d.open is not true);

-- forgotten: a part of the notifications that were open for a while, in order from ($1, $2) on,
-- and whether it can be settled how they went
select h.id, h.created_at, coalesce(d.sent or not d.open, true) as due
from (
    select id, created_at from notification_history
    where status = 'pending' and enqueued_at < now() - interval '5 seconds'
        and (created_at, id) > ($1, $2)
    order by created_at, id
    limit $3
) h
cross join lateral (
    select bool_or(status = 'sent') as sent, bool_or(status in ('pending', 'leased')) as open
    from notification_deliveries where notification = h.id
) d
order by h.created_at, h.id;
