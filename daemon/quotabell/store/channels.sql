-- Statements about the channels in force (table channels).

-- lock: one replica at a time changes them; who reads them is not kept waiting
lock table channels in share row exclusive mode;

-- known: the channels in force
select name, type, origin, kind, provider, model, alert_user, quota, min_percentage
from channels order by name;

-- define: have a channel in force
insert into channels (
    name, type, origin, kind, provider, model, alert_user, quota, min_percentage)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
on conflict (name) do update set
    type = excluded.type, origin = excluded.origin, kind = excluded.kind,
    provider = excluded.provider, model = excluded.model, alert_user = excluded.alert_user,
    quota = excluded.quota, min_percentage = excluded.min_percentage;

-- remove: have no others in force
delete from channels where not name = any ($1::text[]);

-- moved: deliveries to channels that have another origin now are due there
update deliveries d set origin = c.origin, due = now()
from channels c
where d.id in (
        select o.id from deliveries o join channels m on m.name = o.target and m.type = o.channel
        where o.open and o.status = 'pending' and o.channel <> 'webpush' and o.origin <> m.origin
        order by o.id for no key update of o skip locked)
    and c.name = d.target and d.status = 'pending';

-- orphaned: deliveries to channels that are gone fail; their notifications. One that somebody is
-- about to send is left to the sender.
with gone as materialized (
    select d.id from deliveries d
    where d.open and d.status = 'pending' and d.channel <> 'webpush'
        and not exists (select from channels c where c.name = d.target and c.type = d.channel)
    order by d.id for no key update skip locked
)
update deliveries d set status = 'failed', reason = 'channel_removed', finished_at = now(),
    fence = fence + 1
from gone where d.id = gone.id and d.status = 'pending'
returning d.notification_id::text as notification;
