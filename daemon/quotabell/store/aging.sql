-- Statements that delete what is older than its retention, some rows at a time.

-- history: notifications with their deliveries and attempts, oldest first, but none whose
-- deliveries are still open; and alerts that ended before the same time
with old as (
    select h.id from notification_history h
    where h.created_at < now() - $1::interval and not exists (
        select from deliveries d
        where d.notification_id = h.id and d.status in ('pending', 'leased'))
    order by h.created_at, h.id
    limit $2
    for update skip locked
), forgotten as (
    delete from alerts a
    where a.id in (
        select id from alerts where status = 'resolved' and ended_at < now() - $1::interval
        limit $2)
)
delete from notification_history h using old where h.id = old.id
returning h.id;

-- subscriptions: browsers that have not been active for so long
delete from push_subscriptions
where id in (
    select id from push_subscriptions
    where not is_active and updated_at < now() - $1::interval
    order by updated_at
    limit $2
    for update skip locked)
returning id;
