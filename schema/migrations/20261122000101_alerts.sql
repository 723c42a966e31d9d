-- migrate:up

-- Alerts: one episode of one kind for one quota state, firing from its crossing until it
-- resolves. Of kinds that are about something else, this is named by `subject`, and `state_id` is
-- its id (quotabell_alert_subject_id); they have no level, limit or user. `seq` counts its transitions that are told to people; `announced_seq` is the last
-- one of them that was sent, or was not to be. What was used and allowed at the last change of
-- its level is kept, so that a resolution can say what changed.
create table public.alerts (
    id uuid primary key default gen_random_uuid(),
    state_id uuid not null,
    kind text not null default 'threshold' check (kind in ('threshold', 'forecast', 'stale', 'channel')),
    subject text not null default '',             -- source or channel; '': a quota state
    status text not null default 'firing' check (status in ('firing', 'resolved')),
    user_id text not null default '',
    quota text not null,
    provider text not null,
    model text not null,
    level float8 not null,
    seq integer not null default 1,
    announced_seq integer not null default 0,
    tokens_used bigint not null,
    token_limit bigint,
    reason text check (reason in (
        'fell', 'limit raised', 'limit unknown', 'threshold removed', 'period over',
        'usage removed',
        'slower burn', 'exhausted', 'no forecast',    -- of a forecast
        'reports again', 'source removed', 'not watched', 'longer silence allowed', -- of a source
        'works again', 'channel removed', 'nobody subscribed')), -- of a channel
    acknowledged_at timestamptz,
    acknowledged_by text,
    seeded boolean not null default false,        -- found by a recount, not by usage
    data jsonb not null default '{}',             -- facts of its kind that its messages carry
    started_at timestamptz not null default now(),
    ended_at timestamptz,
    updated_at timestamptz not null default now()
);
create unique index alerts_firing_of_state on public.alerts (state_id, kind)
    where status = 'firing';
create index alerts_unannounced on public.alerts (id) where announced_seq < seq;
create index alerts_by_user on public.alerts (user_id, started_at desc, id);

alter table public.alerts enable row level security;
create policy alerts_own on public.alerts for select
    using (user_id = (select public.quotabell_subject()));
grant select on public.alerts to quotabell_reader;

create view public.active_alerts with (security_invoker = true) as
select id, state_id, kind, user_id, quota, provider, model, level, seq, tokens_used, token_limit,
    acknowledged_at, acknowledged_by, started_at, subject
from public.alerts
where status = 'firing'
order by level desc, started_at;
grant select on public.active_alerts to quotabell_reader;

-- Scopes whose quota states must be compared anew because a threshold of theirs changed, or all
-- of them (settings). Worked off in key order; `after_key` and `after_period` are where the next
-- batch goes on.
create table public.rearm_scopes (
    id bigint generated always as identity primary key,
    provider text,                                -- NULL: any
    user_id text,                                 -- NULL: any
    after_key text[] not null default '{"","","",""}', -- user, quota, provider, model done last
    after_period timestamptz not null default '-infinity',
    states uuid[],                                -- only these, which were held; NULL: all
    writers text[],                               -- to wait for; NULL: work has not begun
    created_at timestamptz not null default now()
);
alter table public.rearm_scopes enable row level security;

-- The functions below name pg_temp, to search it last: unnamed it comes first, and a type of the
-- caller's making could stand in for one of Postgres. Those that only compute are in PL/pgSQL,
-- which keeps their plans.

-- The thresholds of a quota state, ascending: the quota's own, else of the most specific scope
-- that has an active one (provider and user, provider, user, anyone), else the defaults.
create function public.quotabell_thresholds(of_quota text, of_provider text, of_user text)
returns float8[]
language plpgsql stable set search_path = pg_catalog, pg_temp
as $$
begin
    return coalesce(
        (select thresholds from public.quotas where name = of_quota),
        (
            select array_agg(threshold_percentage order by threshold_percentage)
            from public.token_thresholds
            where is_active and provider in (of_provider, '*') and user_id in (of_user, '')
            group by provider, user_id
            order by provider <> '*' desc, user_id <> '' desc
            limit 1),
        (select default_thresholds from public.settings));
end $$;

-- The lowest active threshold of any scope or quota: what a new row may be armed with unseen. Too low
-- is safe, since the trigger then only arms the row properly. Infinity where there is none: who
-- adds one has the rows compared anew. Part of every report's statement, so what cannot be read, or
-- not at once, costs no report: the row stays unarmed.
create function public.quotabell_lowest_threshold() returns float8
language plpgsql stable
set search_path = pg_catalog, pg_temp
set lock_timeout = '200ms'
as $$
begin
    return coalesce(least(
        (select min(threshold_percentage) from public.token_thresholds where is_active),
        (select min(t) from public.quotas, unnest(thresholds) as t),
        (select min(t) from public.settings, unnest(default_thresholds) as t)), 'infinity');
exception when others then
    return '-infinity';
end $$;

-- A token count for people, as the daemon's messages have it (domain/figures.py).
create function public.quotabell_tokens(n bigint) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
    select case
        when n < 10000 then to_char(n, 'FM9,990')
        when n < 1000000 then trim_scale(trunc(n / 1000.0, 1)) || ' k'
        when n < 1000000000 then trim_scale(trunc(n / 1000000.0, 2)) || ' M'
        when n < 1000000000000 then trim_scale(trunc(n / 1000000000.0, 2)) || ' B'
        else trim_scale(trunc(n / 1000000000000.0, 2)) || ' T'
    end
$$;

-- A span of time for people, cut: 0 min at least, then hours and days.
create function public.quotabell_span(span interval) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
    select case
        when seconds < 100 * 60 then trunc(greatest(seconds, 0) / 60) || ' min'
        when seconds < 48 * 3600 then trunc(seconds / 3600) || ' h'
        else trunc(seconds / 86400) || ' days'
    end
    from (select extract(epoch from span) as seconds) s
$$;

-- What a quota state is called: provider and model, as far as its quota tells them apart.
create function public.quotabell_name(quota text, provider text, model text) returns text
language sql immutable set search_path = pg_catalog, pg_temp
as $$
    select concat_ws(', ',
        case when quota not like 'reported%' then quota end,
        nullif(concat_ws(' / ', nullif(provider, '*'), nullif(model, '*')), ''))
$$;

-- The last transition of an alert into the history, where it waits for its delivery.
create function public.quotabell_announce(a public.alerts) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    period_end constant timestamptz := (
        select u.period_end from public.token_usage u where u.id = a.state_id);
begin
    if a.subject <> '' then
        perform public.quotabell_announce_subject(a);
        return;
    end if;
    insert into public.notification_history (
        user_id, alert_id, seq, kind, transition, level, title, body, data
    ) values (
        a.user_id, a.id, a.seq, a.kind, a.status, a.level,
        format('%s %s', public.quotabell_name(a.quota, a.provider, a.model), case
            when a.status = 'resolved' and a.reason = 'exhausted' then 'has run out'
            when a.status = 'resolved' and a.kind = 'forecast'
                then 'does not run out early: ' || a.reason
            when a.status = 'resolved' then 'is resolved: ' || a.reason
            when a.kind = 'forecast' then 'runs out in about ' || public.quotabell_span(
                coalesce((a.data ->> 'exhaustsAt')::timestamptz, now()) - now())
            -- Cut, not rounded: 99.99 % is not 100 %.
            else 'is at ' || trim_scale(div(a.tokens_used * 1000::numeric, a.token_limit) / 10)
                || ' %' end),
        format('%s of %s tokens%s%s', public.quotabell_tokens(a.tokens_used),
            coalesce(public.quotabell_tokens(a.token_limit), 'an unknown number of'),
            case when a.user_id <> '' then ' by ' || a.user_id else '' end,
            case when a.kind = 'forecast' and period_end > now()
                then ', resets in ' || public.quotabell_span(period_end - now()) else '' end),
        jsonb_build_object(
            'stateId', a.state_id, 'quota', a.quota, 'provider', a.provider, 'model', a.model,
            'tokensUsed', a.tokens_used, 'tokenLimit', a.token_limit,
            'percentage', a.tokens_used * 100.0::float8 / a.token_limit,
            'threshold', a.level, 'reason', a.reason, 'periodEnd', period_end) || a.data
    ) on conflict (alert_id, seq) do nothing;
    if a.seeded and a.seq = 1 then
        update public.notification_history set status = 'suppressed',
            error = 'found by counting again: told in one message for all'
        where alert_id = a.id and seq = 1;
        return;
    end if;
    perform pg_notify('quotabell', '');
end $$;

-- A message that was sent, or that nobody wants, has been announced: should its row in the
-- history go, it is not written again. Never waits for the alert: a writer may hold it.
create function public.quotabell_announced() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update public.alerts set announced_seq = new.seq
    where id = (
        select id from public.alerts
        where id = new.alert_id and announced_seq < new.seq
        for no key update skip locked);
    return null;
end $$;

create trigger quotabell_announced after update of status on public.notification_history
for each row when (
    new.alert_id is not null and old.status = 'pending' and new.status <> 'pending'
) execute function public.quotabell_announced();

-- The one function that rings: compares a quota state with its thresholds, writes what follows,
-- and arms the row for its next crossing. Idempotent: safe for any state at any time. It looks
-- at the row only once it holds it, so whoever rings at the same time comes before or after.
create function public.quotabell_ring(state uuid) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    s public.token_usage;
    a public.alerts;
    open boolean;
    thresholds float8[];
    hysteresis float8;
    t float8;
    reached float8;
    held float8;
    next float8 := 'infinity';
begin
    select * into s from public.token_usage where id = state for no key update;
    -- While its quota is counted again, what it says is not known yet.
    if not found
        or exists (select from public.quotas where name = s.quota and phase = 'recount') then
        return;
    end if;
    select * into a from public.alerts
    where state_id = state and kind = 'threshold' and status = 'firing' for no key update;
    select public.quotabell_thresholds(s.quota, s.provider, s.user_id), c.hysteresis
    into strict thresholds, hysteresis from public.settings c;
    open := s.period_end is null or s.period_end > now();
    foreach t in array thresholds loop
        if t <= s.percentage then
            reached := greatest(reached, t);
        end if;
    end loop;
    held := case
        when not open then null
        -- A level holds until the percentage has fallen below it by the hysteresis, or below half
        -- of a level so low that nothing could.
        when a.level = any (thresholds) and s.percentage >= a.level - least(hysteresis, a.level / 2)
            then greatest(a.level, reached)
        else reached
    end;
    if held is not null and a.id is null then
        insert into public.alerts (
            state_id, user_id, quota, provider, model, level, tokens_used, token_limit, seeded
        ) values (
            s.id, s.user_id, s.quota, s.provider, s.model, held, s.tokens_used, s.token_limit,
            coalesce(current_setting('quotabell.seeding', true), '') = 'on'
        ) returning * into a;
        perform public.quotabell_announce(a);
    elsif held > a.level then
        update public.alerts set level = held, seq = seq + 1, tokens_used = s.tokens_used,
            token_limit = s.token_limit, updated_at = now(),
            -- An acknowledgement lasts until it gets worse.
            acknowledged_at = null, acknowledged_by = null
        where id = a.id returning * into a;
        perform public.quotabell_announce(a);
    elsif held < a.level then
        update public.alerts set level = held, tokens_used = s.tokens_used,
            token_limit = s.token_limit, updated_at = now()
        where id = a.id;
    elsif held is null and a.id is not null then
        update public.alerts set status = 'resolved', ended_at = now(), updated_at = now(),
            seq = seq + 1, tokens_used = s.tokens_used, token_limit = s.token_limit,
            reason = case
                when not open then 'period over'
                when s.percentage is null then 'limit unknown'
                when not a.level = any (thresholds) then 'threshold removed'
                -- Under the limit of before, the level would still hold.
                when s.token_limit > a.token_limit
                    and s.tokens_used * 100.0::float8 / a.token_limit >= a.level - least(hysteresis, a.level / 2)
                    then 'limit raised'
                else 'fell' end
        where id = a.id returning * into a;
        perform public.quotabell_announce(a);
    end if;
    foreach t in array thresholds loop
        if t > coalesce(greatest(s.percentage, held), '-infinity') then
            next := least(next, t);
        end if;
    end loop;
    update public.token_usage set
        alert_at = case when open then next else 'infinity' end,
        resolve_at = coalesce(held - least(hysteresis, held / 2), '-infinity')
    where id = state;
end $$;

-- Rings, or leaves everything as it was and says so: the evaluator rings it in its next round.
-- Waits for no lock for long, and once a transaction has rung for 2 s not at all: a report must be
-- answered whatever becomes of its alerts, however many they are.
create function public.quotabell_ring_safely(state uuid) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '200ms'
as $$
declare
    spent constant float8 :=
        coalesce(nullif(current_setting('quotabell.ringing', true), ''), '0'); -- seconds
    began constant timestamptz := clock_timestamp();
    rung boolean := true;
begin
    if spent > 2 then
        return false;
    end if;
    begin
        perform public.quotabell_ring(state);
    exception when others then
        raise warning 'quotabell: ring failed, the evaluator will repeat it: % (%)', sqlerrm, sqlstate;
        rung := false;
    end;
    perform set_config('quotabell.ringing',
        (spent + extract(epoch from clock_timestamp() - began))::text, true);
    return rung;
end $$;

create function public.quotabell_ring_trigger() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform public.quotabell_ring_safely(new.id);
    return null;
end $$;

create trigger quotabell_ring after insert or update on public.token_usage
for each row when (
    new.percentage >= new.alert_at
    or new.percentage < new.resolve_at
    or (new.percentage is null and new.resolve_at > '-infinity')
) execute function public.quotabell_ring_trigger();

-- A state whose period was over is armed with infinity; a new end opens it again.
create trigger quotabell_reopen after update of period_end on public.token_usage
for each row when (old.period_end is distinct from new.period_end)
execute function public.quotabell_ring_trigger();

-- Whoever changes a threshold, by the API or by SQL, has its scope compared anew.
create function public.quotabell_thresholds_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    if tg_op = 'INSERT' then
        insert into public.rearm_scopes (provider, user_id)
        select distinct nullif(provider, '*'), nullif(user_id, '') from new_rows where is_active;
    elsif tg_op = 'DELETE' then
        insert into public.rearm_scopes (provider, user_id)
        select distinct nullif(provider, '*'), nullif(user_id, '') from old_rows where is_active;
    elsif tg_op = 'UPDATE' then
        insert into public.rearm_scopes (provider, user_id)
        select distinct nullif(either.provider, '*'), nullif(either.user_id, '')
        from old_rows o join new_rows n using (id)
        cross join lateral (
            values (o.provider, o.user_id), (n.provider, n.user_id)) as either (provider, user_id)
        where (o.is_active or n.is_active)
            and (o.provider, o.user_id, o.threshold_percentage, o.is_active)
                <> (n.provider, n.user_id, n.threshold_percentage, n.is_active);
    else
        insert into public.rearm_scopes default values;
    end if;
    if found then
        perform pg_notify('quotabell', 'rearm');
    end if;
    return null;
end $$;

create trigger quotabell_thresholds_inserted after insert on public.token_thresholds
referencing new table as new_rows
for each statement execute function public.quotabell_thresholds_changed();
create trigger quotabell_thresholds_updated after update on public.token_thresholds
referencing old table as old_rows new table as new_rows
for each statement execute function public.quotabell_thresholds_changed();
create trigger quotabell_thresholds_deleted after delete on public.token_thresholds
referencing old table as old_rows
for each statement execute function public.quotabell_thresholds_changed();
create trigger quotabell_thresholds_truncated after truncate on public.token_thresholds
for each statement execute function public.quotabell_thresholds_changed();

create function public.quotabell_settings_changed() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    insert into public.rearm_scopes default values;
    perform pg_notify('quotabell', 'rearm');
    return null;
end $$;

create trigger quotabell_settings_changed after update of default_thresholds, hysteresis
on public.settings
for each row when (
    old.default_thresholds <> new.default_thresholds or old.hysteresis <> new.hysteresis
) execute function public.quotabell_settings_changed();

-- The other transactions that have written or locked quota states and may still commit. A statement
-- takes this lock before it looks at anything.
create function public.quotabell_writers() returns text[]
language sql volatile set search_path = pg_catalog, pg_temp
as $$
    select coalesce(array_agg(virtualtransaction), '{}') from pg_locks
    where locktype = 'relation' and relation = 'public.token_usage'::regclass
        and database = (select oid from pg_database where datname = current_database())
        and mode in ('RowShareLock', 'RowExclusiveLock') and pid is distinct from pg_backend_pid()
$$;

-- Work off a batch of the oldest scope that is to be compared anew; returns how many states it
-- compared, NULL if there is nothing to do now. Rows below any threshold and without an alert
-- are armed by the plain update; for the others, disarming them makes the trigger ring and arm
-- them. Those that somebody holds for long are compared when that is over, the others meanwhile: a
-- report waits 1.5 s for the rows that are locked here, so these must not wait nearly as long.
create function public.quotabell_rearm(batch integer) returns integer
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '200ms'
set plan_cache_mode = force_custom_plan
as $$
declare
    scope public.rearm_scopes;
    under_way text[] := public.quotabell_writers();
    lowest float8;
    picked uuid[];
    held uuid[];
begin
    select * into scope from public.rearm_scopes
    where writers is null or not writers && under_way
    order by id limit 1 for update skip locked;
    if not found then
        return null;
    end if;
    if scope.writers is null then
        -- Rows that a transaction has inserted but not committed cannot be seen yet, and may be
        -- armed by the thresholds of before. Mostly it is over in a moment; where it is not, the
        -- scope is compared once more when it is.
        for i in 1..50 loop
            exit when under_way = '{}';
            perform pg_sleep(0.01);
            under_way := array(
                select unnest(under_way) intersect select unnest(public.quotabell_writers()));
        end loop;
        if under_way <> '{}' then
            insert into public.rearm_scopes (provider, user_id, writers)
            values (scope.provider, scope.user_id, under_way);
        end if;
    end if;
    lowest := public.quotabell_lowest_threshold();
    with batched as materialized (
        select t.id, t.user_id, t.quota, t.provider, t.model, t.period_start
        from public.token_usage t
        where (scope.provider is null or t.provider = scope.provider)
            and (scope.user_id is null or t.user_id = scope.user_id)
            and (scope.states is null or t.id = any (scope.states))
            and (t.period_end is null or t.period_end > now())
            and (t.user_id, t.quota, t.provider, t.model, t.period_start) > (
                scope.after_key[1], scope.after_key[2], scope.after_key[3],
                scope.after_key[4], scope.after_period)
        order by t.user_id, t.quota, t.provider, t.model, t.period_start
        limit batch
    )
    select array(select id from batched), last.key, last.period_start
    into picked, scope.after_key, scope.after_period
    from (
        select array[user_id, quota, provider, model] as key, period_start
        from batched
        order by user_id desc, quota desc, provider desc, model desc, period_start desc
        limit 1) last;
    picked := coalesce(picked, '{}');
    begin
        -- In the order of all writers, so that nobody waits in a circle.
        perform from public.token_usage t
        where t.id = any (picked)
        order by t.user_id collate "C", t.quota collate "C", t.provider collate "C",
            t.model collate "C", t.period_start
        for no key update;
    exception when lock_not_available then
        held := array(
            select unnest(picked)
            except
            select id from (
                select t.id from public.token_usage t
                where t.id = any (picked) for no key update skip locked) free);
        insert into public.rearm_scopes (provider, user_id, states, writers)
        values (scope.provider, scope.user_id, held, public.quotabell_writers());
    end;
    update public.token_usage t set alert_at = case
        when t.resolve_at = '-infinity' and coalesce(t.percentage, 0) < lowest then lowest
        else '-infinity' end
    where t.id = any (picked) and (held is null or t.id <> all (held));
    if cardinality(picked) < batch then
        delete from public.rearm_scopes where id = scope.id;
    else
        update public.rearm_scopes set after_key = scope.after_key,
            after_period = scope.after_period, writers = coalesce(scope.writers, '{}')
        where id = scope.id;
    end if;
    return cardinality(picked);
end $$;

-- Rows that were there before ring() was.
insert into public.rearm_scopes default values;

select public.quotabell_protect(
    'alerts', 'active_alerts', 'rearm_scopes',
    'quotabell_thresholds(text,text,text)', 'quotabell_name(text,text,text)', 'quotabell_lowest_threshold()', 'quotabell_tokens(bigint)',
    'quotabell_span(interval)', 'quotabell_announce(public.alerts)', 'quotabell_announced()',
    'quotabell_ring(uuid)', 'quotabell_ring_safely(uuid)', 'quotabell_ring_trigger()',
    'quotabell_thresholds_changed()', 'quotabell_settings_changed()',
    'quotabell_writers()', 'quotabell_rearm(integer)');

-- migrate:down

drop trigger quotabell_settings_changed on public.settings;
drop trigger quotabell_thresholds_inserted on public.token_thresholds;
drop trigger quotabell_thresholds_updated on public.token_thresholds;
drop trigger quotabell_thresholds_deleted on public.token_thresholds;
drop trigger quotabell_thresholds_truncated on public.token_thresholds;
drop trigger quotabell_reopen on public.token_usage;
drop trigger quotabell_ring on public.token_usage;
drop trigger quotabell_announced on public.notification_history;
drop function public.quotabell_rearm(integer);
drop function public.quotabell_writers();
drop function public.quotabell_settings_changed();
drop function public.quotabell_thresholds_changed();
drop function public.quotabell_ring_trigger();
drop function public.quotabell_ring_safely(uuid);
drop function public.quotabell_ring(uuid);
drop function public.quotabell_announced();
drop function public.quotabell_announce(public.alerts);
drop function public.quotabell_span(interval);
drop function public.quotabell_tokens(bigint);
drop function public.quotabell_lowest_threshold();
drop function public.quotabell_name(text, text, text);
drop function public.quotabell_thresholds(text, text, text);
drop table public.rearm_scopes;
drop view public.active_alerts;
drop table public.alerts;
