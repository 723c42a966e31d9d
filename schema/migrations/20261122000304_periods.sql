-- migrate:up

-- Closed quota states, from the one before the last period on; the last one and the open one are
-- in token_usage. By month of their start.
create table public.usage_periods (
    id uuid not null default gen_random_uuid(),
    user_id text not null default '',
    quota text not null,
    provider text not null,
    model text not null,
    period_start timestamptz not null,
    period_end timestamptz not null,
    unit text not null default 'tokens',
    tokens_used bigint not null,
    token_limit bigint,
    percentage float8 generated always as (
        case when token_limit > 0 then tokens_used * 100.0::float8 / token_limit end) stored,
    reported_at timestamptz not null,
    constraint usage_periods_pkey primary key (user_id, quota, provider, model, period_start),
    constraint usage_periods_tokens_used check (tokens_used >= 0)
) partition by range (period_start);

create policy usage_periods_own on public.usage_periods for select
    using (user_id = (select public.quotabell_subject()));
grant select on public.usage_periods to quotabell_reader;

select public.quotabell_protect('usage_periods');

-- migrate:down

drop table public.usage_periods;
