-- migrate:up

-- The tables are made in a scratch schema and then moved to their place. Where an older service
-- left a table of the same name, the new one stays behind as the shape into which the next
-- migration brings the old one.
create schema quotabell_new;

-- For cold tables; of hot ones the statements set updated_at themselves.
create function public.quotabell_touch() returns trigger
language plpgsql set search_path = pg_catalog
as $$
begin
    new.updated_at := now();
    return new;
end $$;

-- One row an endpoint. A subscription without one can never be delivered: it gets a hash of its
-- own and is not active.
create function public.quotabell_endpoint() returns trigger
language plpgsql set search_path = pg_catalog
as $$
declare
    endpoint constant text := nullif(new.subscription ->> 'endpoint', '');
begin
    new.endpoint_hash := encode(
        sha256(convert_to(coalesce(endpoint, 'no endpoint: ' || new.id), 'UTF8')), 'hex');
    if endpoint is null then
        new.is_active := false;
        new.reason := 'no endpoint';
    end if;
    return new;
end $$;

-- Quota states: open periods and the last closed one. Hot: rows are updated in place, so no
-- index may hold a column that every update changes.
create table quotabell_new.token_usage (
    id uuid not null default gen_random_uuid(),
    user_id text not null default '',             -- '': nobody in particular
    quota text not null default 'reported',       -- of the configuration, or reported…: snapshots
    provider text not null,
    model text not null,
    period_start timestamptz not null default 'epoch',
    period_end timestamptz,                       -- exclusive; NULL: not known
    unit text not null default 'tokens',
    tokens_used bigint not null,
    token_limit bigint,                           -- NULL: not known
    percentage float8 generated always as (
        case when token_limit > 0 then tokens_used * 100.0::float8 / token_limit end) stored,
    reported_at timestamptz not null default now(),
    prev_reported_at timestamptz,                 -- before the last statement that wrote the row
    prev_used bigint,
    generation integer not null default 0,        -- of its quota's definition; 0: no quota
    alert_at float8 not null default '-infinity', -- ring at this percentage; -infinity: not armed
    resolve_at float8 not null default '-infinity', -- ease or end the alert below this percentage
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint token_usage_pkey primary key (id),
    constraint token_usage_state unique (user_id, quota, provider, model, period_start),
    constraint token_usage_user_id check (char_length(user_id) <= 200),
    constraint token_usage_quota check (char_length(quota) between 1 and 200),
    constraint token_usage_provider check (char_length(provider) between 1 and 200),
    constraint token_usage_model check (char_length(model) between 1 and 200),
    constraint token_usage_unit check (unit in ('tokens', 'requests', 'percent')),
    constraint token_usage_tokens_used check (tokens_used >= 0),
    constraint token_usage_token_limit check (token_limit > 0)
) with (fillfactor = 70);

-- At which percentages to ring. The most specific scope with an active row counts:
-- (provider, user), (provider), (user), else settings.default_thresholds.
create table quotabell_new.token_thresholds (
    id uuid not null default gen_random_uuid(),
    provider text not null default '*',           -- '*': any
    user_id text not null default '',             -- '': any
    threshold_percentage float8 not null,
    is_active boolean not null default true,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint token_thresholds_pkey primary key (id),
    constraint token_thresholds_scope unique (provider, user_id, threshold_percentage),
    constraint token_thresholds_provider check (char_length(provider) between 1 and 200),
    constraint token_thresholds_user_id check (char_length(user_id) <= 200),
    constraint token_thresholds_percentage
        check (threshold_percentage > 0 and threshold_percentage <= 1000)
);

create index token_thresholds_lowest on quotabell_new.token_thresholds (threshold_percentage)
    where is_active;
create trigger quotabell_touch before update on quotabell_new.token_thresholds
    for each row when (old.* is distinct from new.*) execute function public.quotabell_touch();

-- Browsers to push to, as PushSubscription.toJSON() gives them.
create table quotabell_new.push_subscriptions (
    id uuid not null default gen_random_uuid(),
    user_id text not null default '',             -- '': an operator
    subscription jsonb not null,
    is_active boolean not null default true,
    endpoint_hash text not null,                  -- SHA-256 of the endpoint, by a trigger
    reason text,                                  -- why it is not active
    vapid_key_id text,
    last_success_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint push_subscriptions_pkey primary key (id),
    constraint push_subscriptions_endpoint unique (endpoint_hash),
    constraint push_subscriptions_user_id check (char_length(user_id) <= 200)
);

create index push_subscriptions_active on quotabell_new.push_subscriptions (user_id)
    where is_active;
create trigger quotabell_touch before update on quotabell_new.push_subscriptions
    for each row when (old.* is distinct from new.*) execute function public.quotabell_touch();
create trigger quotabell_endpoint before insert or update of subscription, endpoint_hash
    on quotabell_new.push_subscriptions
    for each row execute function public.quotabell_endpoint();

-- One row for each transition of an alert, and for each test message.
create table quotabell_new.notification_history (
    id uuid not null default gen_random_uuid(),
    user_id text not null default '',
    alert_id uuid,
    seq integer,                                  -- of the transition within its alert
    kind text not null default 'threshold',
    transition text not null default 'firing',
    level float8,                                 -- percent
    title text not null,
    body text not null,
    data jsonb not null default '{}',
    status text not null default 'pending',
    error text,
    sent_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint notification_history_pkey primary key (id),
    constraint notification_history_transition unique (alert_id, seq),
    constraint notification_history_user_id check (char_length(user_id) <= 200),
    constraint notification_history_status check (
        status in ('pending',    -- not yet handed to deliveries, or some are open
                   'sent',       -- at least one delivery arrived
                   'failed',     -- none did
                   'suppressed')) -- silenced, or nobody to tell
);

create index notification_history_of_user
    on quotabell_new.notification_history (user_id, created_at desc, id);
create index notification_history_recent
    on quotabell_new.notification_history (created_at desc, id);
create index notification_history_pending on quotabell_new.notification_history (created_at, id)
    where status = 'pending';

-- What the configuration says, for SQL. One row.
create table public.settings (
    id boolean not null default true,
    config_hash text not null default '',
    default_thresholds float8[] not null default '{75,90,100}',
    hysteresis float8 not null default 5,         -- percentage points
    generation integer not null default 0,        -- grows whenever a quota changes
    updated_at timestamptz not null default now(),
    constraint settings_pkey primary key (id),
    constraint settings_one_row check (id),
    constraint settings_default_thresholds check (
        array_position(default_thresholds, null) is null
        and 0 < all (default_thresholds) and 1000 >= all (default_thresholds)),
    constraint settings_hysteresis check (hysteresis >= 0 and hysteresis <= 1000)
);
create trigger quotabell_touch before update on public.settings
    for each row when (old.* is distinct from new.*) execute function public.quotabell_touch();
insert into public.settings default values;

-- The configured quotas as they are in force for all replicas, and how far their states follow.
-- A new definition is counted anew from the events (recount), then each of its states gets its
-- limit and is compared with its thresholds (settle), then it is ready. A quota that is no longer
-- configured is removed once its open states are.
create table public.quotas (
    name text not null,
    definition jsonb not null,                    -- as the configuration has it
    fingerprint text not null,                    -- of what decides how events are counted
    thresholds float8[],                          -- NULL: those of the scopes
    notify text[] not null,                       -- owner, operators, everyone
    generation integer not null,                  -- which brought the fingerprint
    counted_from timestamptz not null,            -- start of the first period that is complete
    defined_from timestamptz not null,            -- start of the first period of its fingerprint
    phase text not null,
    -- Recount: the last event that was counted again. Its time in the order of their key.
    done_day date,
    done_source text,
    done_event text,
    -- Settle: the last state that was compared.
    settled text[] not null default '{"","","",""}', -- user, quota, provider, model
    settled_period timestamptz not null default '-infinity',
    seeding boolean not null default false,       -- alerts found now are told in one message
    changed_at timestamptz not null default now(),
    constraint quotas_pkey primary key (name),
    constraint quotas_phase check (phase in ('recount', 'settle', 'ready', 'removed')),
    constraint quotas_notify check (notify <@ array['owner', 'operators', 'everyone'])
);

-- The periods of each quota, from the one before the present to some ahead, because only a
-- program that knows time zones can work them out.
create table public.quota_periods (
    quota text not null,
    period_start timestamptz not null,
    period_end timestamptz not null,
    continues boolean not null,                   -- the period before counted in the same way
    constraint quota_periods_pkey primary key (quota, period_start),
    constraint quota_periods_quota foreign key (quota) references public.quotas (name)
        on delete cascade,
    constraint quota_periods_order check (period_start < period_end)
);

-- Who does the work that only one replica may do, until when.
create table public.leases (
    name text not null,
    holder text not null,
    expires_at timestamptz not null,
    renewed_at timestamptz not null default now(),
    constraint leases_pkey primary key (name)
);

do $$
declare
    name text;
begin
    for name in
        select relname from pg_class
        where relnamespace = 'quotabell_new'::regnamespace and relkind = 'r'
            and to_regclass('public.' || relname) is null
    loop
        execute format('alter table quotabell_new.%I set schema public', name);
        perform public.quotabell_protect(name);
    end loop;
end $$;

select public.quotabell_protect(
    'settings', 'quotas', 'quota_periods', 'leases', 'quotabell_touch()', 'quotabell_endpoint()');

-- migrate:down

-- Drops the tables with all that is in them, also those of an older service. One statement, so
-- that nothing is lost to a client that goes on after an error, or that takes this file for a
-- plain script. Quotabell itself never runs it.
do $$
declare
    held text;
begin
    select string_agg(format('%s (%s rows)', name, rows), ', ') into held
    from (select 'token_usage' as name, count(*) as rows from public.token_usage
          union all select 'token_thresholds', count(*) from public.token_thresholds
          union all select 'push_subscriptions', count(*) from public.push_subscriptions
          union all select 'notification_history', count(*) from public.notification_history) t
    where rows > 0;
    if held is not null and current_setting('quotabell.drop_rows', true) is distinct from 'yes' then
        raise exception 'quotabell: not dropped, because these tables hold rows: %. If they may '
            'go, connect with options=-cquotabell.drop_rows=yes', held;
    end if;
    drop table public.token_usage, public.token_thresholds, public.push_subscriptions,
        public.notification_history, public.settings, public.quota_periods, public.quotas,
        public.leases;
    drop function public.quotabell_touch();
    drop function public.quotabell_endpoint();
    drop schema if exists quotabell_new cascade;
end $$;
