-- migrate:up

-- At most one message of an alert goes to a target in min_interval, but for what is worse than
-- what the target was told; what still fires is told again after repeat_interval. 0: neither.
alter table public.settings
    add column min_interval interval not null default '0'
        constraint settings_min_interval check (min_interval between '0' and '31 days'),
    add column repeat_interval interval not null default '0'
        constraint settings_repeat_interval check (repeat_interval between '0' and '366 days');

-- When an alert last had something to tell: whoever tells of it counts seq up.
alter table public.alerts add column told_at timestamptz not null default now();
create function public.quotabell_alert_told() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    new.told_at := now();
    return new;
end $$;
create trigger quotabell_alert_told before update of seq on public.alerts
for each row when (new.seq <> old.seq) execute function public.quotabell_alert_told();
create index alerts_to_repeat on public.alerts (told_at)
    where status = 'firing' and acknowledged_at is null
        and (kind = 'forecast' or kind = 'threshold' and level >= 100);

alter table public.deliveries
    add column told_level float8,                 -- what it tells of; NULL: of an end, or no alert
    -- Not before this delivery has ended; until then `due` is when it would expire.
    add column waits_for bigint,
    -- Whether it goes even if that never arrives.
    add column waits_anyway boolean not null default false;
create index deliveries_waiting on public.deliveries (waits_for)
    where open and waits_for is not null;
-- Those of them may have arrived of which an attempt is unknown.
create index deliveries_failed_of_lane on public.deliveries (lane, place)
    where lane is not null and not open and not arrived;

-- Messages that tell of many alerts at once: rows of the history without an alert, whose
-- deliveries belong to no lane. Until closes_at more alerts may join.
create table public.digests (
    id uuid not null references public.notification_history (id) on delete cascade,
    kind text not null,
    ends boolean not null,                        -- tells of ends
    held boolean not null,                        -- waits until an interval is over
    awaits uuid,                                  -- the message that must have arrived before
    opened_at timestamptz not null default now(),
    closes_at timestamptz not null,
    constraint digests_pkey primary key (id)
);
create index digests_open on public.digests (closes_at);

-- What a digest tells of. Superseded: a later message of the alert came before the digest went.
create table public.digest_members (
    digest uuid not null references public.digests (id) on delete cascade,
    notification uuid not null references public.notification_history (id) on delete cascade,
    state_id uuid not null,
    kind text not null,
    place bigint not null,                        -- as in deliveries
    told_level float8,                            -- as in deliveries
    superseded boolean not null default false,
    constraint digest_members_pkey primary key (digest, notification)
);
create index digest_members_of_notification on public.digest_members (notification);
create index digest_members_of_state on public.digest_members (state_id, kind, place)
    where not superseded;

create policy digest_members_own on public.digest_members for select using (
    exists (select from public.notification_history h
            where h.id = notification and h.user_id = (select public.quotabell_subject())));
grant select on public.digest_members to quotabell_reader;

-- How it goes with a notification: its own deliveries, and those of the digests that tell of it.
create view public.notification_deliveries with (security_invoker = true) as
select notification_id as notification, id as delivery, status, reason
from public.deliveries
union all
select m.notification, d.id, case when m.superseded then 'superseded' else d.status end, d.reason
from public.digest_members m join public.deliveries d on d.notification_id = m.digest;

select public.quotabell_protect(
    'digests', 'digest_members', 'notification_deliveries', 'quotabell_alert_told()');

-- migrate:down

drop view public.notification_deliveries;
drop table public.digest_members;
drop table public.digests;
drop index public.deliveries_failed_of_lane;
drop index public.deliveries_waiting;
alter table public.deliveries drop column waits_anyway, drop column waits_for,
    drop column told_level;
drop index public.alerts_to_repeat;
drop trigger quotabell_alert_told on public.alerts;
drop function public.quotabell_alert_told();
alter table public.alerts drop column told_at;
alter table public.settings drop column repeat_interval, drop column min_interval;
