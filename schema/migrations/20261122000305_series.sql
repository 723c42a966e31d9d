-- migrate:up

-- How far each run of a cumulative series has been counted. Moved under the row's lock in the
-- transaction that counts what was added. A restarted process has a start of its own.
create table public.series_marks (
    source text collate "C" not null,             -- sender/service
    series_key text collate "C" not null,         -- digest of what names the series
    start_time timestamptz not null,              -- the epoch: not given
    last_value bigint not null,
    last_time timestamptz not null,
    prev_value bigint,                            -- before the last change; NULL: there was none
    prev_time timestamptz,
    updated_at timestamptz not null default now(),
    constraint series_marks_pkey primary key (source, series_key, start_time),
    constraint series_marks_value check (last_value >= 0)
) with (fillfactor = 70);

-- By which signal a source is counted: spans, log records and metrics of one program describe the
-- same calls. The best that was seen stays.
create table public.source_signals (
    source text collate "C" not null,             -- sender/service
    signal text not null,
    rank integer not null,                        -- 0 metrics, 1 with ids, 2 the one that tells most
    metrics_until timestamptz,                    -- up to when its metrics have been counted
    seen_at timestamptz not null default now(),   -- when something of it came, to the minute
    constraint source_signals_pkey primary key (source),
    constraint source_signals_signal check (signal in ('traces', 'logs', 'metrics'))
);

alter table public.sources add column signal text; -- by which it was counted last; NULL: no choice

select public.quotabell_protect('series_marks', 'source_signals');

-- migrate:down

alter table public.sources drop column signal;
drop table public.source_signals;
drop table public.series_marks;
