-- migrate:up

-- Who reports, by which way in, and how it goes. Bounded: what comes when there are 1,000 is
-- counted as 'other'. Approximate: counted in memory and written a moment later.
create table public.sources (
    name text collate "C" not null,               -- token/way in, and /source where one is given
    user_id text not null default '',             -- to whom the token is bound; '': nobody
    kind text not null,                           -- the way in: update, events…
    first_seen timestamptz not null default now(),
    last_event_at timestamptz,                    -- when one was received last; NULL: none yet
    events bigint not null default 0,             -- taken, repeats as well
    rejected bigint not null default 0,
    last_rejected_at timestamptz,
    last_error text,                              -- of the last rejection; nothing of its body
    -- Its rhythm: the two longest pauses between its reports in a block of two weeks and in the
    -- block before, without the time in which nobody listened, and when the longest was over.
    reported_since timestamptz,                   -- NULL: no report yet
    longest_pause interval,
    longest_until timestamptz,
    second_pause interval,
    earlier_longest interval,
    earlier_until timestamptz,
    earlier_second interval,
    pauses_since timestamptz not null default now(), -- start of the present block
    constraint sources_pkey primary key (name)
);

create policy sources_own on public.sources for select
    using (user_id = (select public.quotabell_subject()));
grant select on public.sources to quotabell_reader;

select public.quotabell_protect('sources');

-- migrate:down

drop table public.sources;
