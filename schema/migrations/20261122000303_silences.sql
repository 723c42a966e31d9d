-- migrate:up

-- What is not told for a while; alerts and their messages are recorded all the same.
create table public.silences (
    id uuid not null default gen_random_uuid(),
    user_id text not null default '',             -- of this user's alerts only; '': of anybody's
    matchers jsonb not null,                      -- shell patterns by key, as they were given
    -- The same as regular expressions; NULL: anything. One that is none is refused here, since it
    -- would keep every message from being sent.
    provider text constraint silences_provider check (provider is null or '' ~ provider is not null),
    model text constraint silences_model check (model is null or '' ~ model is not null),
    alert_user text constraint silences_user check (alert_user is null or '' ~ alert_user is not null),
    quota text constraint silences_quota check (quota is null or '' ~ quota is not null),
    kind text constraint silences_kind check (kind is null or '' ~ kind is not null),
    starts_at timestamptz not null default now(),
    ends_at timestamptz not null,
    author text not null,                         -- the token that made it
    reason text not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint silences_pkey primary key (id),
    constraint silences_times check (starts_at < ends_at)
);
create index silences_ending on public.silences (ends_at);
create trigger quotabell_touch before update on public.silences
    for each row when (old.* is distinct from new.*) execute function public.quotabell_touch();

create policy silences_own on public.silences for select
    using (user_id = (select public.quotabell_subject()));
grant select on public.silences to quotabell_reader;

-- The silence that keeps a message from being told; NULL: not silenced.
alter table public.notification_history add column silence_id uuid;
create index notification_history_silenced on public.notification_history (alert_id, seq)
    where silence_id is not null;

-- The silence in force for an alert of this kind, of several the one that ends last; NULL: none.
create function public.quotabell_silence(
    of_provider text, of_model text, of_user text, of_quota text, of_kind text
) returns uuid
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select id from public.silences
    where starts_at <= now() and now() < ends_at
        and user_id in ('', of_user)
        and (provider is null or of_provider ~ provider)
        and (model is null or of_model ~ model)
        and (alert_user is null or of_user ~ alert_user)
        and (quota is null or of_quota ~ quota)
        and (kind is null or of_kind ~ kind)
    order by ends_at desc, id
    limit 1
$$;

select public.quotabell_protect('silences', 'quotabell_silence(text,text,text,text,text)');

-- migrate:down

drop function public.quotabell_silence(text, text, text, text, text);
drop index public.notification_history_silenced;
alter table public.notification_history drop column silence_id;
drop table public.silences;
