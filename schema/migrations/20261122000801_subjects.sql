-- migrate:up

-- Alerts about what is no quota state: a source that stopped reporting (stale), a channel over
-- which nothing arrives (channel). Told to operators only: they are nobody's quota.

-- Stands where other alerts have the id of their quota state: episodes, lanes and tags work alike.
create function public.quotabell_alert_subject_id(of_kind text, of_subject text) returns uuid
language sql immutable set search_path = pg_catalog, pg_temp
as $$
    select md5(of_kind || '/' || of_subject)::uuid
$$;
grant execute on function public.quotabell_alert_subject_id(text, text) to quotabell_reader;

-- The last transition of such an alert into the history. Its facts stand in `data`.
create function public.quotabell_announce_subject(a public.alerts) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into public.notification_history (
        user_id, alert_id, seq, kind, transition, title, body, data
    ) values (
        a.user_id, a.id, a.seq, a.kind, a.status,
        case
            when a.status = 'resolved' then format('%s is resolved: %s', a.subject, a.reason)
            when a.kind = 'stale' then a.subject || ' stopped reporting'
            else a.subject || ' does not work' end,
        case when a.kind = 'stale' then format('Last report: %s. Usual pause: up to %s s',
                coalesce(a.data ->> 'lastEventAt', 'unknown'),
                coalesce(a.data ->> 'usualPause', '0'))
            else format('Nothing has arrived since %s: %s',
                coalesce(a.data ->> 'failingSince', 'unknown'),
                coalesce(a.data ->> 'error', 'unknown')) end,
        jsonb_build_object(
            'subject', a.subject, 'subjectId', a.state_id, 'reason', a.reason) || a.data
    ) on conflict (alert_id, seq) do nothing;
    perform pg_notify('quotabell', '');
end $$;

-- How far the rounds of evaluation have come. One row.
create table public.rounds (
    id boolean not null default true,
    heard_until timestamptz not null default now(), -- the last round
    next_by timestamptz not null default now() + interval '1 minute', -- later is an outage
    heard_since timestamptz not null default now(), -- end of the last outage
    watched_since timestamptz,                    -- sources are watched since; NULL: they are not
    attempts_until timestamptz not null default now(), -- attempts that ended before were looked at
    constraint rounds_pkey primary key (id),
    constraint rounds_one_row check (id)
);
insert into public.rounds default values;

-- When no round took place: whoever reported then was perhaps not heard.
create table public.outages (
    began timestamptz not null,
    ended timestamptz not null,
    constraint outages_pkey primary key (began),
    constraint outages_order check (began < ended)
);

-- For how long nobody listened since a time; an outage that is not over counts up to now.
create function public.quotabell_unheard(since timestamptz) returns interval
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select coalesce(sum(o.ended - greatest(o.began, since)), '0')
    from (
        select began, ended from public.outages
        union all
        select heard_until, now() from public.rounds where next_by < now()
    ) o
    where o.ended > since
$$;

-- How channels do by what became of attempts: each of the operator's, Web Push as a whole, each of
-- its origins, and there each key of ours. Failing: attempts failed, and none has succeeded since.
create table public.channel_health (
    subject text collate "C" not null,            -- 'webhook ops', 'webpush', 'webpush <origin>'…
    within text,                                  -- the subject that it is a part of
    channel text not null,
    target text,                                  -- name of a channel, origin of Web Push
    vapid_key_id text,
    ok_at timestamptz,                            -- the last success, to the minute
    failing_since timestamptz,                    -- the first failure after it; NULL: none
    failed_at timestamptz,                        -- the last failure
    reason text,                                  -- of it
    constraint channel_health_pkey primary key (subject)
);

-- Whether anybody can be reached over it.
create function public.quotabell_channel_serves(h public.channel_health) returns boolean
language sql stable set search_path = pg_catalog, pg_temp
as $$
    select case
        when h.channel <> 'webpush' then exists (
            select from public.channels c where c.type = h.channel and c.name = h.target)
        else exists (
            select from public.push_subscriptions s
            where s.is_active
                and (h.target is null
                    or starts_with(s.subscription ->> 'endpoint', h.target || '/'))
                and (h.vapid_key_id is null or s.vapid_key_id = h.vapid_key_id)) end
$$;

-- Attempts are looked at once, soon after they ended. Blocks of rows instead of each: it costs
-- who writes them nothing.
create index attempts_started on public.attempts using brin (started_at)
    with (pages_per_range = 16, autosummarize = on);

-- Nobody is told over a channel that it does not work: the others tell it.
create function public.quotabell_skip_failing() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if new.state_id in (
        public.quotabell_alert_subject_id('channel', new.channel),
        public.quotabell_alert_subject_id('channel', new.channel || ' ' || new.target),
        public.quotabell_alert_subject_id('channel', new.channel || ' ' || new.origin),
        (select public.quotabell_alert_subject_id('channel', format(
                '%s %s key %s', new.channel, new.origin, s.vapid_key_id))
            from public.push_subscriptions s
            where new.channel = 'webpush' and s.id::text = new.target))
    then
        return null;
    end if;
    return new;
end $$;
create trigger quotabell_skip_failing before insert on public.deliveries
for each row when (new.kind = 'channel') execute function public.quotabell_skip_failing();

select public.quotabell_protect(
    'rounds', 'outages', 'channel_health', 'quotabell_alert_subject_id(text,text)',
    'quotabell_announce_subject(public.alerts)', 'quotabell_unheard(timestamptz)',
    'quotabell_channel_serves(public.channel_health)', 'quotabell_skip_failing()');

-- migrate:down

drop trigger quotabell_skip_failing on public.deliveries;
drop function public.quotabell_skip_failing();
drop index public.attempts_started;
drop function public.quotabell_channel_serves(public.channel_health);
drop table public.channel_health;
drop function public.quotabell_unheard(timestamptz);
drop table public.outages;
drop table public.rounds;
drop function public.quotabell_announce_subject(public.alerts);
drop function public.quotabell_alert_subject_id(text, text);
