-- migrate:up

-- Users came in the order of their first rows.
alter table public.token_totals add column created_at timestamptz not null default now();

-- How often users lost their own series in /metrics, because there were too many. One row.
create table public.metric_folding (
    id boolean not null default true,
    generation integer not null default 0,        -- 0: everybody has series
    constraint metric_folding_pkey primary key (id),
    constraint metric_folding_one_row check (id)
);
insert into public.metric_folding default values;

-- Who still has series since then. Users only leave: a sum that was folded stays so.
create table public.metric_users (
    user_id text collate "C" not null,
    constraint metric_users_pkey primary key (user_id)
);

select public.quotabell_protect('metric_folding', 'metric_users');

-- migrate:down

drop table public.metric_users;
drop table public.metric_folding;
alter table public.token_totals drop column created_at;
