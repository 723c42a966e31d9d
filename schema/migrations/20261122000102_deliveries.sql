-- migrate:up

-- When the notification was turned into deliveries; NULL: not yet.
alter table public.notification_history add column enqueued_at timestamptz;
create index notification_history_unqueued
    on public.notification_history ((alert_id is null), created_at, id)
    where status = 'pending' and enqueued_at is null;

-- Counts the episodes of all states. Those of one state are begun one after the other, each
-- holding the state's row, so that a later one has a higher number whatever the clock says.
alter table public.alerts add column episode bigint generated always as identity;

-- A notification for one recipient on one channel. Due times and leases are the database's
-- clock. Whoever holds the fence may say how it went: it changes with every claim and with
-- everything that ends one.
create table public.deliveries (
    id bigint generated always as identity primary key,
    notification_id uuid not null references public.notification_history (id) on delete cascade,
    channel text not null,
    target text not null,                         -- webpush: the subscription's id
    origin text not null,                         -- what shares one fate: scheme://host
    -- What a message replaces at its target (tag, Topic) is told apart by state and kind, and so
    -- are the lanes, which hold the messages of all episodes. NULL: a message of its own.
    state_id uuid,
    kind text,
    episode bigint,
    seq integer,                                  -- of the transition within the episode
    place bigint generated always as (episode << 24 | least(seq, 16777215)) stored, -- in the lane
    lane uuid generated always as (               -- one narrow key for the indexes below
        md5(state_id::text || '/' || kind || '/' || channel || '/' || target)::uuid) stored,
    resolves boolean not null default false,      -- goes only to whom the alert was told
    asked boolean not null default false,         -- a test or resend: after all alerts
    status text not null default 'pending' check (status in (
        'pending',      -- -> leased, expired, suppressed, superseded
        'leased',       -- -> sent, failed, expired, pending (to be tried again, or lease run out)
        'sent',
        'failed',       -- refused for good, the recipient is gone, or out of tries
        'expired',      -- not worth sending any more
        'suppressed',   -- silenced, or the end of an alert that had never been told
        'superseded'    -- a later message of its lane went to the target, or is to
    )),
    -- Bounded, so that no number or time set by hand makes every claim fail.
    due timestamptz not null default now() check (due > '-infinity'),
    expires_at timestamptz not null check (isfinite(expires_at)),
    tries integer not null default 0              -- attempts made
        check (tries between 0 and 1000000),
    counted integer not null default 0            -- of these, what counts against the limit
        check (counted between 0 and 1000000),
    fence bigint not null default 0 check (fence between 0 and 1000000000000000),
    lease_until timestamptz,
    http_status integer,
    reason text,
    finished_at timestamptz,
    created_at timestamptz not null default now(),
    -- Indexes ask these instead of the status: a claim changes neither, so it writes no index.
    open boolean not null generated always as (status in ('pending', 'leased')) stored,
    arrived boolean not null generated always as (status = 'sent') stored,
    constraint deliveries_target unique (notification_id, channel, target)
) with (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
create index deliveries_due on public.deliveries (asked, origin, due, id) where open;
create index deliveries_due_first on public.deliveries (asked, due, origin) where open;
-- A lane's open messages, and the last that went: lanes grow for years, looking into one must not.
create index deliveries_open_of_lane on public.deliveries (lane, place)
    where lane is not null and open;
create index deliveries_sent_of_lane on public.deliveries (lane, place)
    where lane is not null and arrived;

-- A delivery to a browser names a subscription. No constraint: that would be compared again
-- whenever anything else of the row changes, which takes a fifth of the time of doing so.
create function public.quotabell_target_is_no_id() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'deliveries_target_is_id: a browser is named by the id of its subscription'
        using errcode = 'check_violation', constraint = 'deliveries_target_is_id';
end $$;
create trigger quotabell_target_is_no_id after insert or update of channel, target
on public.deliveries
for each row when (
    new.channel = 'webpush'
    and new.target !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
) execute function public.quotabell_target_is_no_id();

-- One try of a delivery; written before it is made, so that none is ever unknown of. Without a
-- foreign key, which would cost every claim a tenth of its time; a trigger does its work.
create table public.attempts (
    delivery_id bigint not null,
    n integer not null,
    fence bigint not null,
    worker text not null,                         -- the instance that made it
    lane uuid,                                    -- of the delivery
    started_at timestamptz not null default clock_timestamp(),
    ended_at timestamptz,
    outcome text check (outcome in (              -- NULL: under way
        'sent', 'retry', 'gone', 'failed',
        'unknown')),                              -- a crash hid it: possibly a duplicate
    http_status integer,
    reason text,
    constraint attempts_pkey primary key (delivery_id, n)
) with (fillfactor = 70);
-- At most one message of a lane is under way to a target, whoever sends it: an older one can
-- never arrive after a newer one. And all that is under way is found here.
create unique index attempts_under_way on public.attempts (lane) where outcome is null;

create function public.quotabell_delete_attempts() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    delete from public.attempts a using gone d where a.delivery_id = d.id;
    return null;
end $$;
create trigger quotabell_delete_attempts after delete on public.deliveries
referencing old table as gone
for each statement execute function public.quotabell_delete_attempts();

-- Origins that asked for a pause or do not answer: nothing is sent there for a while.
create table public.delivery_pauses (
    origin text primary key,
    until timestamptz not null,
    reason text not null
);

-- The public parts of every key that subscriptions were made with.
create table public.vapid_keys (
    id text primary key,                          -- first 16 hex digits of its SHA-256
    public_key text not null,                     -- uncompressed point, base64url
    is_active boolean not null default true,
    created_at timestamptz not null default now()
);

alter table public.deliveries enable row level security;
alter table public.attempts enable row level security;
create policy deliveries_own on public.deliveries for select using (
    exists (select from public.notification_history h
            where h.id = notification_id and h.user_id = (select public.quotabell_subject())));
create policy attempts_own on public.attempts for select using (
    exists (select from public.deliveries d where d.id = delivery_id));
grant select on public.deliveries, public.attempts to quotabell_reader;

select public.quotabell_protect(
    'deliveries', 'attempts', 'delivery_pauses', 'vapid_keys', 'quotabell_delete_attempts()',
    'quotabell_target_is_no_id()');

-- migrate:down

drop table public.vapid_keys;
drop table public.delivery_pauses;
drop table public.attempts;
drop table public.deliveries;
alter table public.alerts drop column episode;
drop function public.quotabell_delete_attempts();
drop function public.quotabell_target_is_no_id();
drop index public.notification_history_unqueued;
alter table public.notification_history drop column enqueued_at;
