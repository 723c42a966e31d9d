-- migrate:up

-- Partitions live apart: read directly, a partition escapes the policies of its table, and
-- hosted servers may grant new tables in public to everybody.
create schema quotabell_parts;
revoke all on schema quotabell_parts from public;

-- Every usage event, no content. A repeat with a larger total replaces the token kinds of the
-- first report and keeps their former values in prev_*; user, provider, model and time stay.
create table public.usage_events (
    source text collate "C" not null,             -- sender/source
    event_id text collate "C" not null,
    day date not null,                            -- of time, in UTC
    time timestamptz not null,
    user_id text not null default '',
    provider text not null,
    model text not null,
    input bigint not null default 0,              -- not cached
    cache_read bigint not null default 0,
    cache_write bigint not null default 0,
    output bigint not null default 0,             -- visible
    reasoning bigint not null default 0,
    other bigint not null default 0,
    cost_usd numeric,
    corrections integer not null default 0,       -- how often a larger repeat came
    prev_input bigint,
    prev_cache_read bigint,
    prev_cache_write bigint,
    prev_output bigint,
    prev_reasoning bigint,
    prev_other bigint,
    prev_cost_usd numeric,
    generation integer not null default 0,        -- of the quotas that it was first counted for
    received_at timestamptz not null default now(),
    constraint usage_events_pkey primary key (source, event_id, day),
    constraint usage_events_counts check (
        input >= 0 and cache_read >= 0 and cache_write >= 0 and output >= 0 and reasoning >= 0
        and other >= 0 and cost_usd >= 0)
) partition by range (day);

-- Running sums per user, provider and model; never pruned. A correction may move tokens between
-- kinds, and a Prometheus counter must not fall: shown_* is the highest each sum has been. Numeric:
-- two events may each hold as many tokens as a bigint can.
create table public.token_totals (
    user_id text collate "C" not null default '',
    provider text collate "C" not null,
    model text collate "C" not null,
    input numeric not null default 0,
    cache_read numeric not null default 0,
    cache_write numeric not null default 0,
    output numeric not null default 0,
    reasoning numeric not null default 0,
    other numeric not null default 0,
    requests bigint not null default 0,
    cost_usd numeric not null default 0,
    shown_input numeric not null default 0,
    shown_cache_read numeric not null default 0,
    shown_cache_write numeric not null default 0,
    shown_output numeric not null default 0,
    shown_reasoning numeric not null default 0,
    shown_other numeric not null default 0,
    shown_cost_usd numeric not null default 0,
    updated_at timestamptz not null default now(),
    constraint token_totals_pkey primary key (user_id, provider, model)
) with (fillfactor = 70);

-- Makes the partitions of a table, by 'day' or 'month' in UTC, from that of one day to that of
-- another, as far as they are missing; returns how many.
create function public.quotabell_keep_parts(parent regclass, every text, first date, last date)
returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
as $$
declare
    step constant interval := ('1 ' || every)::interval;
    base constant text := (select relname from pg_class where oid = parent);
    d date;
    part text;
    made integer := 0;
begin
    -- One replica at a time makes them; the others then find them made.
    perform pg_advisory_xact_lock(x'71756F7461646179'::bigint);
    for d in select generate_series(date_trunc(every, first::timestamp), last, step)::date loop
        part := format('quotabell_parts.%I', base || '_' || to_char(d,
            case every when 'day' then 'YYYYMMDD' else 'YYYYMM' end));
        if to_regclass(part) is null then
            execute format('create table %s (like %s '
                'including defaults including constraints including generated including indexes)',
                part, parent);
            execute format('alter table %s enable row level security', part);
        elsif exists (select from pg_inherits where inhrelid = part::regclass) then
            continue;
        end if;
        execute format('alter table %s attach partition %s for values from (%L) to (%L)',
            parent, part, d, (d + step)::date);
        made := made + 1;
    end loop;
    return made;
end $$;

create policy usage_events_own on public.usage_events for select
    using (user_id = (select public.quotabell_subject()));
create policy token_totals_own on public.token_totals for select
    using (user_id = (select public.quotabell_subject()));
grant select on public.usage_events, public.token_totals to quotabell_reader;

select public.quotabell_protect(
    'usage_events', 'token_totals', 'quotabell_keep_parts(regclass,text,date,date)');

-- migrate:down

drop function public.quotabell_keep_parts(regclass, text, date, date);
drop table public.token_totals;
drop table public.usage_events;
drop schema quotabell_parts;
