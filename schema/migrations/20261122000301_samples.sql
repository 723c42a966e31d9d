-- migrate:up

-- What was used and allowed of a quota state once a minute while it changed or burnt. By month.
create table public.usage_samples (
    state_id uuid not null,
    time timestamptz not null,
    used bigint not null,
    lim bigint,                                   -- NULL: not known
    burn float8,                                  -- per second; NULL: not known
    constraint usage_samples_pkey primary key (state_id, time)
) partition by range (time);

-- The last sample of each state. Apart from token_usage, whose rows are the writers' alone.
create table public.usage_burn (
    state_id uuid not null,
    sampled_at timestamptz not null,
    used bigint not null,
    lim bigint,
    burn float8,
    -- What was used before does not tell how fast usage grows: a correction or a late event came.
    restarted_at timestamptz not null default '-infinity',
    -- It fell and rose again within the window: it will burn later even if it stands still.
    dipped boolean not null default false,
    constraint usage_burn_pkey primary key (state_id)
) with (fillfactor = 70);

create policy usage_samples_own on public.usage_samples for select
    using (state_id in (select id from public.token_usage));
create policy usage_burn_own on public.usage_burn for select
    using (state_id in (select id from public.token_usage));
grant select on public.usage_samples, public.usage_burn to quotabell_reader;

select public.quotabell_protect('usage_samples', 'usage_burn');

-- migrate:down

drop table public.usage_burn;
drop table public.usage_samples;
