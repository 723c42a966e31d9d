-- The schema of Quotabell, whole. Made by scripts/dump-schema from the migrations; not to be
-- edited. For an empty database:
--   psql --set ON_ERROR_STOP=1 --file schema.sql
-- Where an older service left its tables, apply the migrations instead, or start the daemon.

BEGIN;

do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'quotabell_reader') then
        begin
            create role quotabell_reader nologin;
        exception
            when duplicate_object or unique_violation then null; -- made elsewhere this moment
            when insufficient_privilege then
                raise exception using errcode = '42501', message = format(
                    'quotabell: the role %1$I may not create roles; let a superuser run once: '
                    'CREATE ROLE quotabell_reader NOLOGIN; GRANT quotabell_reader TO %1$I;',
                    current_user);
        end;
    end if;
    if exists (select from pg_catalog.pg_roles
               where rolname = 'quotabell_reader' and (rolsuper or rolbypassrls)) then
        raise exception 'quotabell: the role quotabell_reader could see the rows of every user; '
            'let a superuser run: ALTER ROLE quotabell_reader NOSUPERUSER NOBYPASSRLS;';
    end if;
    -- From Postgres 16 on, membership alone does not allow SET ROLE.
    if not pg_has_role(current_user, 'quotabell_reader',
            case when current_setting('server_version_num')::integer < 160000
                then 'MEMBER' else 'SET' end) then
        begin
            execute format('grant quotabell_reader to %I', current_user);
        exception when insufficient_privilege then
            raise exception using errcode = '42501', message = format(
                'quotabell: the role %1$I may not step down to quotabell_reader; '
                'let a superuser run once: GRANT quotabell_reader TO %1$I;', current_user);
        end;
    end if;
    if not has_schema_privilege('quotabell_reader', 'public', 'USAGE') then
        grant usage on schema public to quotabell_reader;
    end if;
end $$;

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

CREATE SCHEMA quotabell_parts;

CREATE FUNCTION public.quotabell_alert_subject_id(of_kind text, of_subject text) RETURNS uuid
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select md5(of_kind || '/' || of_subject)::uuid
$$;

CREATE FUNCTION public.quotabell_alert_told() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    new.told_at := now();
    return new;
end $$;

SET default_tablespace = '';

SET default_table_access_method = heap;

CREATE TABLE public.alerts (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    state_id uuid NOT NULL,
    kind text DEFAULT 'threshold'::text NOT NULL,
    subject text DEFAULT ''::text NOT NULL,
    status text DEFAULT 'firing'::text NOT NULL,
    user_id text DEFAULT ''::text NOT NULL,
    quota text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    level double precision NOT NULL,
    seq integer DEFAULT 1 NOT NULL,
    announced_seq integer DEFAULT 0 NOT NULL,
    tokens_used bigint NOT NULL,
    token_limit bigint,
    reason text,
    acknowledged_at timestamp with time zone,
    acknowledged_by text,
    seeded boolean DEFAULT false NOT NULL,
    data jsonb DEFAULT '{}'::jsonb NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    ended_at timestamp with time zone,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    episode bigint NOT NULL,
    told_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT alerts_kind_check CHECK ((kind = ANY (ARRAY['threshold'::text, 'forecast'::text, 'stale'::text, 'channel'::text]))),
    CONSTRAINT alerts_reason_check CHECK ((reason = ANY (ARRAY['fell'::text, 'limit raised'::text, 'limit unknown'::text, 'threshold removed'::text, 'period over'::text, 'usage removed'::text, 'slower burn'::text, 'exhausted'::text, 'no forecast'::text, 'reports again'::text, 'source removed'::text, 'not watched'::text, 'longer silence allowed'::text, 'works again'::text, 'channel removed'::text, 'nobody subscribed'::text]))),
    CONSTRAINT alerts_status_check CHECK ((status = ANY (ARRAY['firing'::text, 'resolved'::text])))
);

CREATE FUNCTION public.quotabell_announce(a public.alerts) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.quotabell_announce_subject(a public.alerts) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.quotabell_announced() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    update public.alerts set announced_seq = new.seq
    where id = (
        select id from public.alerts
        where id = new.alert_id and announced_seq < new.seq
        for no key update skip locked);
    return null;
end $$;

CREATE TABLE public.channel_health (
    subject text NOT NULL COLLATE pg_catalog."C",
    within text,
    channel text NOT NULL,
    target text,
    vapid_key_id text,
    ok_at timestamp with time zone,
    failing_since timestamp with time zone,
    failed_at timestamp with time zone,
    reason text
);

CREATE FUNCTION public.quotabell_channel_serves(h public.channel_health) RETURNS boolean
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE TABLE public.notification_history (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id text DEFAULT ''::text NOT NULL,
    alert_id uuid,
    seq integer,
    kind text DEFAULT 'threshold'::text NOT NULL,
    transition text DEFAULT 'firing'::text NOT NULL,
    level double precision,
    title text NOT NULL,
    body text NOT NULL,
    data jsonb DEFAULT '{}'::jsonb NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    error text,
    sent_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    enqueued_at timestamp with time zone,
    silence_id uuid,
    CONSTRAINT notification_history_status CHECK ((status = ANY (ARRAY['pending'::text, 'sent'::text, 'failed'::text, 'suppressed'::text]))),
    CONSTRAINT notification_history_user_id CHECK ((char_length(user_id) <= 200))
);

CREATE FUNCTION public.quotabell_channels(h public.notification_history) RETURNS TABLE(channel text, target text, origin text)
    LANGUAGE sql STABLE ROWS 3
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select c.type, c.name, c.origin
    from public.channels c
    where case
        when h.transition = 'test' then h.data -> 'channels' ?| array['*', c.name]
        when h.data @> '{"ownOnly": true}' or c.type = 'alertmanager' and h.alert_id is null
            then false
        else (c.kind is null or h.kind ~ c.kind)
            and (c.provider is null or coalesce(h.data ->> 'provider', '') ~ c.provider)
            and (c.model is null or coalesce(h.data ->> 'model', '') ~ c.model)
            and (c.alert_user is null or h.user_id ~ c.alert_user)
            and (c.quota is null or coalesce(h.data ->> 'quota', '') ~ c.quota)
            and (c.min_percentage <= 0 or h.transition = 'resolved' or h.level is null
                or h.level >= c.min_percentage
                or case when jsonb_typeof(h.data -> 'percentage') = 'number'
                    then (h.data ->> 'percentage')::float8 >= c.min_percentage end)
        end
$$;

CREATE FUNCTION public.quotabell_delete_attempts() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    delete from public.attempts a using gone d where a.delivery_id = d.id;
    return null;
end $$;

CREATE FUNCTION public.quotabell_endpoint() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog'
    AS $$
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

CREATE FUNCTION public.quotabell_forecast(state uuid, action text, why text, silent boolean, facts jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    s public.token_usage;
    a public.alerts;
begin
    if action = 'wait' then
        insert into public.forecasts values (state, now()) on conflict do nothing;
        return;
    elsif action = 'drop' then
        delete from public.forecasts where state_id = state;
        return;
    elsif action = 'keep' then
        insert into public.forecasts values (state, now())
        on conflict (state_id) do update set against = null;
        return;
    elsif action = 'clear' then
        insert into public.forecasts as f values (state, now(), now())
        on conflict (state_id) do update set against = coalesce(f.against, now());
        return;
    end if;
    select * into s from public.token_usage where id = state for no key update;
    if not found then
        return;
    end if;
    select * into a from public.alerts
    where state_id = state and kind = 'forecast' and status = 'firing' for no key update;
    if action = 'fire' then
        if a.id is not null or s.token_limit is null or s.tokens_used >= s.token_limit
            or s.period_end <= now()
            or exists (select from public.quotas where name = s.quota and phase = 'recount')
        then
            return;
        end if;
        insert into public.alerts (
            state_id, kind, user_id, quota, provider, model, level, tokens_used, token_limit, data
        ) values (
            -- As bad as what it reaches.
            s.id, 'forecast', s.user_id, s.quota, s.provider, s.model, 100, s.tokens_used,
            s.token_limit, facts
        ) returning * into a;
        perform public.quotabell_announce(a);
        insert into public.forecasts values (state, now())
        on conflict (state_id) do update set against = null;
    elsif action = 'note' then
        update public.alerts set tokens_used = s.tokens_used, data = facts where id = a.id;
    elsif action = 'end' then
        delete from public.forecasts where state_id = state;
        if a.id is null then
            return;
        end if;
        update public.alerts set status = 'resolved', reason = why, ended_at = now(),
            updated_at = now(), seq = seq + (not silent)::integer,
            tokens_used = s.tokens_used, token_limit = s.token_limit, data = facts
        where id = a.id returning * into a;
        if not silent then
            perform public.quotabell_announce(a);
            return;
        end if;
        -- What it foretold has come, and is told as such.
        update public.notification_history set status = 'suppressed',
            error = 'the limit was reached before this was told'
        where alert_id = a.id and status = 'pending' and enqueued_at is null;
    end if;
end $$;

CREATE FUNCTION public.quotabell_forecast_safely(state uuid, action text, why text, silent boolean, facts jsonb) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '200ms'
    AS $$
begin
    perform public.quotabell_forecast(state, action, why, silent, facts);
    return true;
exception when others then
    raise warning 'quotabell: a forecast failed, the evaluator will repeat it: % (%)',
        sqlerrm, sqlstate;
    return false;
end $$;

CREATE FUNCTION public.quotabell_interval_shortened() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    less constant interval := old.min_interval - new.min_interval;
begin
    update public.digests set closes_at = greatest(now(), closes_at - less)
    where held and closes_at > now();
    update public.deliveries d set due = greatest(now(), d.due - less)
    from (
        select id from public.deliveries
        where open and status = 'pending' and tries = 0 and waits_for is null and due > now()
            and (lane is not null or notification_id in (
                select id from public.digests where held))
        for no key update skip locked
    ) held
    where d.id = held.id;
    return null;
end $$;

CREATE FUNCTION public.quotabell_keep_parts(parent regclass, every text, first date, last date) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET "TimeZone" TO 'UTC'
    AS $$
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

CREATE FUNCTION public.quotabell_lately(blocks integer) RETURNS TABLE(cut boolean, received_at timestamp with time zone, "time" timestamp with time zone, user_id text, provider text, model text, input bigint, cache_read bigint, cache_write bigint, output bigint, reasoning bigint, other bigint)
    LANGUAGE plpgsql STABLE ROWS 2500
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
declare
    d date;
    part regclass;
    first bigint;
begin
    -- One partition at a time by its name: to plan for all of them takes longer than to read one.
    for d in select distinct ((now() - ago) at time zone 'UTC')::date
        from unnest('{0 h,1 h}'::interval[]) as ago
    loop
        part := to_regclass('quotabell_parts.usage_events_' || to_char(d, 'YYYYMMDD'));
        continue when part is null;
        first := greatest(0, pg_relation_size(part) / current_setting('block_size')::bigint - blocks);
        return query execute format(
            'select %L::boolean, received_at, time, user_id::text, provider::text, model::text, input,
                cache_read, cache_write, output, reasoning, other
            from %s where ctid >= %L::tid', first > 0, part, format('(%s,0)', first));
    end loop;
end $$;

CREATE FUNCTION public.quotabell_lowest_threshold() RETURNS double precision
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '200ms'
    AS $$
begin
    return coalesce(least(
        (select min(threshold_percentage) from public.token_thresholds where is_active),
        (select min(t) from public.quotas, unnest(thresholds) as t),
        (select min(t) from public.settings, unnest(default_thresholds) as t)), 'infinity');
exception when others then
    return '-infinity';
end $$;

CREATE FUNCTION public.quotabell_name(quota text, provider text, model text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select concat_ws(', ',
        case when quota not like 'reported%' then quota end,
        nullif(concat_ws(' / ', nullif(provider, '*'), nullif(model, '*')), ''))
$$;

CREATE FUNCTION public.quotabell_protect(VARIADIC names text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog'
    AS $$
declare
    reader constant oid := 'quotabell_reader'::regrole;
    name text;
    relation regclass;
    routine regprocedure;
    kind "char";
    object text;
    shared text[]; -- what quotabell_reader may do
    privilege text;
    guest pg_roles;
begin
    foreach name in array names loop
        relation := null;
        routine := null;
        if name like '%)' then
            routine := 'public.' || name;
            object := 'function ' || routine;
        else
            relation := 'public.' || name;
            object := 'table ' || relation;
        end if;
        kind := (select relkind from pg_class where oid = relation);
        shared := array(
            select privilege_type from pg_class, aclexplode(relacl)
            where oid = relation and grantee = reader
            union all
            select format('%s (%I)', privilege_type, attname) from pg_attribute, aclexplode(attacl)
            where attrelid = relation and grantee = reader
            union all
            select privilege_type from pg_proc, aclexplode(proacl)
            where oid = routine and grantee = reader);
        if kind in ('r', 'p') then
            execute format('alter %s enable row level security', object);
        end if;
        execute format('revoke all on %s from public', object);
        for guest in
            select * from pg_roles where rolname in ('anon', 'authenticated', 'service_role')
        loop
            execute format('revoke all on %s from %I', object, guest.rolname);
            foreach privilege in array case
                when shared = '{}' or guest.rolname = 'anon' then '{}'
                when guest.rolname = 'authenticated' or kind is null or kind = 'v' then shared
                else '{select,insert,update,delete}'::text[] end
            loop
                execute format('grant %s on %s to %I', privilege, object, guest.rolname);
            end loop;
            if guest.rolname = 'service_role' and not guest.rolbypassrls and shared <> '{}'
                and kind in ('r', 'p')
            then
                execute format('drop policy if exists quotabell_service on %s', relation);
                execute format('create policy quotabell_service on %s to service_role '
                    'using (true) with check (true)', relation);
            end if;
        end loop;
    end loop;
end $$;

CREATE FUNCTION public.quotabell_rearm(batch integer) RETURNS integer
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '200ms'
    SET plan_cache_mode TO 'force_custom_plan'
    AS $$
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

CREATE FUNCTION public.quotabell_rearm_queued() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform from public.rearm_scopes r
    where r.provider is not distinct from new.provider
        and r.user_id is not distinct from new.user_id and r.writers is null
    limit 1 for no key update skip locked;
    if found then
        return null;
    end if;
    return new;
end $$;

CREATE FUNCTION public.quotabell_ring(state uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.quotabell_ring_safely(state uuid) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    SET lock_timeout TO '200ms'
    AS $$
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

CREATE FUNCTION public.quotabell_ring_trigger() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform public.quotabell_ring_safely(new.id);
    return null;
end $$;

CREATE FUNCTION public.quotabell_settings_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    insert into public.rearm_scopes default values;
    perform pg_notify('quotabell', 'rearm');
    return null;
end $$;

CREATE FUNCTION public.quotabell_silence(of_provider text, of_model text, of_user text, of_quota text, of_kind text) RETURNS uuid
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.quotabell_skip_failing() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.quotabell_span(span interval) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select case
        when seconds < 100 * 60 then trunc(greatest(seconds, 0) / 60) || ' min'
        when seconds < 48 * 3600 then trunc(seconds / 3600) || ' h'
        else trunc(seconds / 86400) || ' days'
    end
    from (select extract(epoch from span) as seconds) s
$$;

CREATE FUNCTION public.quotabell_subject() RETURNS text
    LANGUAGE sql STABLE
    RETURN NULLIF(((NULLIF(current_setting('request.jwt.claims'::text, true), ''::text))::json ->> 'sub'::text), ''::text);

CREATE FUNCTION public.quotabell_target_is_no_id() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    raise exception 'deliveries_target_is_id: a browser is named by the id of its subscription'
        using errcode = 'check_violation', constraint = 'deliveries_target_is_id';
end $$;

CREATE FUNCTION public.quotabell_thresholds(of_quota text, of_provider text, of_user text) RETURNS double precision[]
    LANGUAGE plpgsql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.quotabell_thresholds_bounded() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
begin
    perform pg_advisory_xact_lock(hashtextextended(
        'quotabell thresholds ' || length(new.provider) || new.provider || new.user_id, 0));
    if (select count(*) from public.token_thresholds
        where provider = new.provider and user_id = new.user_id and id <> new.id) >= 20
    then
        raise exception 'a scope has at most 20 thresholds'
            using errcode = 'check_violation', constraint = 'token_thresholds_of_scope';
    end if;
    return new;
end $$;

CREATE FUNCTION public.quotabell_thresholds_changed() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
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

CREATE FUNCTION public.quotabell_tokens(n bigint) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select case
        when n < 10000 then to_char(n, 'FM9,990')
        when n < 1000000 then trim_scale(trunc(n / 1000.0, 1)) || ' k'
        when n < 1000000000 then trim_scale(trunc(n / 1000000.0, 2)) || ' M'
        when n < 1000000000000 then trim_scale(trunc(n / 1000000000.0, 2)) || ' B'
        else trim_scale(trunc(n / 1000000000000.0, 2)) || ' T'
    end
$$;

CREATE FUNCTION public.quotabell_touch() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path TO 'pg_catalog'
    AS $$
begin
    new.updated_at := now();
    return new;
end $$;

CREATE FUNCTION public.quotabell_unheard(since timestamp with time zone) RETURNS interval
    LANGUAGE sql STABLE
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select coalesce(sum(o.ended - greatest(o.began, since)), '0')
    from (
        select began, ended from public.outages
        union all
        select heard_until, now() from public.rounds where next_by < now()
    ) o
    where o.ended > since
$$;

CREATE FUNCTION public.quotabell_writers() RETURNS text[]
    LANGUAGE sql
    SET search_path TO 'pg_catalog', 'pg_temp'
    AS $$
    select coalesce(array_agg(virtualtransaction), '{}') from pg_locks
    where locktype = 'relation' and relation = 'public.token_usage'::regclass
        and database = (select oid from pg_database where datname = current_database())
        and mode in ('RowShareLock', 'RowExclusiveLock') and pid is distinct from pg_backend_pid()
$$;

CREATE VIEW public.active_alerts WITH (security_invoker='true') AS
 SELECT id,
    state_id,
    kind,
    user_id,
    quota,
    provider,
    model,
    level,
    seq,
    tokens_used,
    token_limit,
    acknowledged_at,
    acknowledged_by,
    started_at,
    subject
   FROM public.alerts
  WHERE (status = 'firing'::text)
  ORDER BY level DESC, started_at;

ALTER TABLE public.alerts ALTER COLUMN episode ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.alerts_episode_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.attempts (
    delivery_id bigint NOT NULL,
    n integer NOT NULL,
    fence bigint NOT NULL,
    worker text NOT NULL,
    lane uuid,
    started_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    ended_at timestamp with time zone,
    outcome text,
    http_status integer,
    reason text,
    CONSTRAINT attempts_outcome_check CHECK ((outcome = ANY (ARRAY['sent'::text, 'retry'::text, 'gone'::text, 'failed'::text, 'unknown'::text])))
)
WITH (fillfactor='70');

CREATE TABLE public.channels (
    name text NOT NULL,
    type text NOT NULL,
    origin text NOT NULL,
    kind text,
    provider text,
    model text,
    alert_user text,
    quota text,
    min_percentage double precision DEFAULT 0 NOT NULL,
    CONSTRAINT channels_kind CHECK (((kind IS NULL) OR ((''::text ~ kind) IS NOT NULL))),
    CONSTRAINT channels_model CHECK (((model IS NULL) OR ((''::text ~ model) IS NOT NULL))),
    CONSTRAINT channels_provider CHECK (((provider IS NULL) OR ((''::text ~ provider) IS NOT NULL))),
    CONSTRAINT channels_quota CHECK (((quota IS NULL) OR ((''::text ~ quota) IS NOT NULL))),
    CONSTRAINT channels_user CHECK (((alert_user IS NULL) OR ((''::text ~ alert_user) IS NOT NULL)))
);

CREATE TABLE public.quota_periods (
    quota text NOT NULL,
    period_start timestamp with time zone NOT NULL,
    period_end timestamp with time zone NOT NULL,
    continues boolean NOT NULL,
    CONSTRAINT quota_periods_order CHECK ((period_start < period_end))
);

CREATE TABLE public.token_usage (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id text DEFAULT ''::text NOT NULL,
    quota text DEFAULT 'reported'::text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    period_start timestamp with time zone DEFAULT '1970-01-01 00:00:00+00'::timestamp with time zone NOT NULL,
    period_end timestamp with time zone,
    unit text DEFAULT 'tokens'::text NOT NULL,
    tokens_used bigint NOT NULL,
    token_limit bigint,
    percentage double precision GENERATED ALWAYS AS (
CASE
    WHEN (token_limit > 0) THEN (((tokens_used)::double precision * (100.0)::double precision) / (token_limit)::double precision)
    ELSE NULL::double precision
END) STORED,
    reported_at timestamp with time zone DEFAULT now() NOT NULL,
    prev_reported_at timestamp with time zone,
    prev_used bigint,
    generation integer DEFAULT 0 NOT NULL,
    alert_at double precision DEFAULT '-Infinity'::double precision NOT NULL,
    resolve_at double precision DEFAULT '-Infinity'::double precision NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT token_usage_model CHECK (((char_length(model) >= 1) AND (char_length(model) <= 200))),
    CONSTRAINT token_usage_provider CHECK (((char_length(provider) >= 1) AND (char_length(provider) <= 200))),
    CONSTRAINT token_usage_quota CHECK (((char_length(quota) >= 1) AND (char_length(quota) <= 200))),
    CONSTRAINT token_usage_token_limit CHECK ((token_limit > 0)),
    CONSTRAINT token_usage_tokens_used CHECK ((tokens_used >= 0)),
    CONSTRAINT token_usage_unit CHECK ((unit = ANY (ARRAY['tokens'::text, 'requests'::text, 'percent'::text]))),
    CONSTRAINT token_usage_user_id CHECK ((char_length(user_id) <= 200))
)
WITH (fillfactor='70');

CREATE VIEW public.current_usage WITH (security_invoker='true') AS
 SELECT token_usage.id,
    token_usage.user_id,
    token_usage.quota,
    token_usage.provider,
    token_usage.model,
    token_usage.unit,
    token_usage.tokens_used,
    token_usage.token_limit,
    token_usage.percentage,
    GREATEST((token_usage.token_limit - token_usage.tokens_used), (0)::bigint) AS tokens_remaining,
    token_usage.period_start,
    token_usage.period_end,
    token_usage.reported_at,
    token_usage.updated_at
   FROM public.token_usage
  WHERE ((token_usage.period_start <= now()) AND ((token_usage.period_end IS NULL) OR (now() < token_usage.period_end)))
UNION ALL
 SELECT t.id,
    t.user_id,
    t.quota,
    t.provider,
    t.model,
    t.unit,
    0 AS tokens_used,
    t.token_limit,
        CASE
            WHEN (t.token_limit > 0) THEN (0.0)::double precision
            ELSE NULL::double precision
        END AS percentage,
    t.token_limit AS tokens_remaining,
    p.period_start,
    p.period_end,
    t.reported_at,
    t.updated_at
   FROM (public.quota_periods p
     JOIN public.token_usage t ON (((t.quota = p.quota) AND (t.period_end = p.period_start))))
  WHERE ((p.period_start <= now()) AND (now() < p.period_end) AND (p.continues OR (t.generation = 0)) AND (NOT (EXISTS ( SELECT
           FROM public.token_usage c
          WHERE ((c.user_id = t.user_id) AND (c.quota = t.quota) AND (c.provider = t.provider) AND (c.model = t.model) AND (c.period_start = p.period_start))))));

CREATE TABLE public.deliveries (
    id bigint NOT NULL,
    notification_id uuid NOT NULL,
    channel text NOT NULL,
    target text NOT NULL,
    origin text NOT NULL,
    state_id uuid,
    kind text,
    episode bigint,
    seq integer,
    place bigint GENERATED ALWAYS AS (((episode << 24) | (LEAST(seq, 16777215))::bigint)) STORED,
    lane uuid GENERATED ALWAYS AS ((md5((((((((state_id)::text || '/'::text) || kind) || '/'::text) || channel) || '/'::text) || target)))::uuid) STORED,
    resolves boolean DEFAULT false NOT NULL,
    asked boolean DEFAULT false NOT NULL,
    status text DEFAULT 'pending'::text NOT NULL,
    due timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    tries integer DEFAULT 0 NOT NULL,
    counted integer DEFAULT 0 NOT NULL,
    fence bigint DEFAULT 0 NOT NULL,
    lease_until timestamp with time zone,
    http_status integer,
    reason text,
    finished_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    open boolean GENERATED ALWAYS AS ((status = ANY (ARRAY['pending'::text, 'leased'::text]))) STORED NOT NULL,
    arrived boolean GENERATED ALWAYS AS ((status = 'sent'::text)) STORED NOT NULL,
    told_level double precision,
    waits_for bigint,
    waits_anyway boolean DEFAULT false NOT NULL,
    CONSTRAINT deliveries_counted_check CHECK (((counted >= 0) AND (counted <= 1000000))),
    CONSTRAINT deliveries_due_check CHECK ((due > '-infinity'::timestamp with time zone)),
    CONSTRAINT deliveries_expires_at_check CHECK (isfinite(expires_at)),
    CONSTRAINT deliveries_fence_check CHECK (((fence >= 0) AND (fence <= '1000000000000000'::bigint))),
    CONSTRAINT deliveries_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'leased'::text, 'sent'::text, 'failed'::text, 'expired'::text, 'suppressed'::text, 'superseded'::text]))),
    CONSTRAINT deliveries_tries_check CHECK (((tries >= 0) AND (tries <= 1000000)))
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.02');

ALTER TABLE public.deliveries ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.deliveries_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.delivery_pauses (
    origin text NOT NULL,
    until timestamp with time zone NOT NULL,
    reason text NOT NULL
);

CREATE TABLE public.digest_members (
    digest uuid NOT NULL,
    notification uuid NOT NULL,
    state_id uuid NOT NULL,
    kind text NOT NULL,
    place bigint NOT NULL,
    told_level double precision,
    superseded boolean DEFAULT false NOT NULL
);

CREATE TABLE public.digests (
    id uuid NOT NULL,
    kind text NOT NULL,
    ends boolean NOT NULL,
    held boolean NOT NULL,
    awaits uuid,
    opened_at timestamp with time zone DEFAULT now() NOT NULL,
    closes_at timestamp with time zone NOT NULL
);

CREATE TABLE public.forecasts (
    state_id uuid NOT NULL,
    since timestamp with time zone NOT NULL,
    against timestamp with time zone
);

CREATE TABLE public.leases (
    name text NOT NULL,
    holder text NOT NULL,
    expires_at timestamp with time zone NOT NULL,
    renewed_at timestamp with time zone DEFAULT now() NOT NULL
);

CREATE TABLE public.metric_folding (
    id boolean DEFAULT true NOT NULL,
    generation integer DEFAULT 0 NOT NULL,
    CONSTRAINT metric_folding_one_row CHECK (id)
);

CREATE TABLE public.metric_users (
    user_id text NOT NULL COLLATE pg_catalog."C"
);

CREATE VIEW public.notification_deliveries WITH (security_invoker='true') AS
 SELECT deliveries.notification_id AS notification,
    deliveries.id AS delivery,
    deliveries.status,
    deliveries.reason
   FROM public.deliveries
UNION ALL
 SELECT m.notification,
    d.id AS delivery,
        CASE
            WHEN m.superseded THEN 'superseded'::text
            ELSE d.status
        END AS status,
    d.reason
   FROM (public.digest_members m
     JOIN public.deliveries d ON ((d.notification_id = m.digest)));

CREATE VIEW public.notification_log WITH (security_invoker='true') AS
 SELECT created_at,
    user_id,
    kind,
    transition,
    level,
    title,
    body,
    status,
    error,
    sent_at,
    id,
    alert_id,
    seq,
    data
   FROM public.notification_history
  ORDER BY created_at DESC, id;

CREATE TABLE public.outages (
    began timestamp with time zone NOT NULL,
    ended timestamp with time zone NOT NULL,
    CONSTRAINT outages_order CHECK ((began < ended))
);

CREATE TABLE public.push_subscriptions (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id text DEFAULT ''::text NOT NULL,
    subscription jsonb NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    endpoint_hash text NOT NULL,
    reason text,
    vapid_key_id text,
    last_success_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT push_subscriptions_user_id CHECK ((char_length(user_id) <= 200))
);

CREATE TABLE public.quotabell_migrations (
    version character varying NOT NULL
);

CREATE TABLE public.quotas (
    name text NOT NULL,
    definition jsonb NOT NULL,
    fingerprint text NOT NULL,
    thresholds double precision[],
    notify text[] NOT NULL,
    generation integer NOT NULL,
    counted_from timestamp with time zone NOT NULL,
    defined_from timestamp with time zone NOT NULL,
    phase text NOT NULL,
    done_day date,
    done_source text,
    done_event text,
    settled text[] DEFAULT '{"","","",""}'::text[] NOT NULL,
    settled_period timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    seeding boolean DEFAULT false NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT quotas_notify CHECK ((notify <@ ARRAY['owner'::text, 'operators'::text, 'everyone'::text])),
    CONSTRAINT quotas_phase CHECK ((phase = ANY (ARRAY['recount'::text, 'settle'::text, 'ready'::text, 'removed'::text])))
);

CREATE TABLE public.rearm_scopes (
    id bigint NOT NULL,
    provider text,
    user_id text,
    after_key text[] DEFAULT '{"","","",""}'::text[] NOT NULL,
    after_period timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    states uuid[],
    writers text[],
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE public.rearm_scopes ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.rearm_scopes_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.rounds (
    id boolean DEFAULT true NOT NULL,
    heard_until timestamp with time zone DEFAULT now() NOT NULL,
    next_by timestamp with time zone DEFAULT (now() + '00:01:00'::interval) NOT NULL,
    heard_since timestamp with time zone DEFAULT now() NOT NULL,
    watched_since timestamp with time zone,
    attempts_until timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT rounds_one_row CHECK (id)
);

CREATE TABLE public.series_marks (
    source text NOT NULL COLLATE pg_catalog."C",
    series_key text NOT NULL COLLATE pg_catalog."C",
    start_time timestamp with time zone NOT NULL,
    last_value bigint NOT NULL,
    last_time timestamp with time zone NOT NULL,
    prev_value bigint,
    prev_time timestamp with time zone,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT series_marks_value CHECK ((last_value >= 0))
)
WITH (fillfactor='70');

CREATE TABLE public.settings (
    id boolean DEFAULT true NOT NULL,
    config_hash text DEFAULT ''::text NOT NULL,
    default_thresholds double precision[] DEFAULT '{75,90,100}'::double precision[] NOT NULL,
    hysteresis double precision DEFAULT 5 NOT NULL,
    generation integer DEFAULT 0 NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    min_interval interval DEFAULT '00:00:00'::interval NOT NULL,
    repeat_interval interval DEFAULT '00:00:00'::interval NOT NULL,
    CONSTRAINT settings_default_thresholds CHECK (((array_position(default_thresholds, NULL::double precision) IS NULL) AND ((0)::double precision < ALL (default_thresholds)) AND ((1000)::double precision >= ALL (default_thresholds)))),
    CONSTRAINT settings_hysteresis CHECK (((hysteresis >= (0)::double precision) AND (hysteresis <= (1000)::double precision))),
    CONSTRAINT settings_min_interval CHECK (((min_interval >= '00:00:00'::interval) AND (min_interval <= '31 days'::interval))),
    CONSTRAINT settings_one_row CHECK (id),
    CONSTRAINT settings_repeat_interval CHECK (((repeat_interval >= '00:00:00'::interval) AND (repeat_interval <= '366 days'::interval)))
);

CREATE TABLE public.silences (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id text DEFAULT ''::text NOT NULL,
    matchers jsonb NOT NULL,
    provider text,
    model text,
    alert_user text,
    quota text,
    kind text,
    starts_at timestamp with time zone DEFAULT now() NOT NULL,
    ends_at timestamp with time zone NOT NULL,
    author text NOT NULL,
    reason text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT silences_kind CHECK (((kind IS NULL) OR ((''::text ~ kind) IS NOT NULL))),
    CONSTRAINT silences_model CHECK (((model IS NULL) OR ((''::text ~ model) IS NOT NULL))),
    CONSTRAINT silences_provider CHECK (((provider IS NULL) OR ((''::text ~ provider) IS NOT NULL))),
    CONSTRAINT silences_quota CHECK (((quota IS NULL) OR ((''::text ~ quota) IS NOT NULL))),
    CONSTRAINT silences_times CHECK ((starts_at < ends_at)),
    CONSTRAINT silences_user CHECK (((alert_user IS NULL) OR ((''::text ~ alert_user) IS NOT NULL)))
);

CREATE TABLE public.source_signals (
    source text NOT NULL COLLATE pg_catalog."C",
    signal text NOT NULL,
    rank integer NOT NULL,
    metrics_until timestamp with time zone,
    seen_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT source_signals_signal CHECK ((signal = ANY (ARRAY['traces'::text, 'logs'::text, 'metrics'::text])))
);

CREATE TABLE public.sources (
    name text NOT NULL COLLATE pg_catalog."C",
    user_id text DEFAULT ''::text NOT NULL,
    kind text NOT NULL,
    first_seen timestamp with time zone DEFAULT now() NOT NULL,
    last_event_at timestamp with time zone,
    events bigint DEFAULT 0 NOT NULL,
    rejected bigint DEFAULT 0 NOT NULL,
    last_rejected_at timestamp with time zone,
    last_error text,
    reported_since timestamp with time zone,
    longest_pause interval,
    longest_until timestamp with time zone,
    second_pause interval,
    earlier_longest interval,
    earlier_until timestamp with time zone,
    earlier_second interval,
    pauses_since timestamp with time zone DEFAULT now() NOT NULL,
    signal text
);

CREATE TABLE public.token_thresholds (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    provider text DEFAULT '*'::text NOT NULL,
    user_id text DEFAULT ''::text NOT NULL,
    threshold_percentage double precision NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT token_thresholds_percentage CHECK (((threshold_percentage > (0)::double precision) AND (threshold_percentage <= (1000)::double precision))),
    CONSTRAINT token_thresholds_provider CHECK (((char_length(provider) >= 1) AND (char_length(provider) <= 200))),
    CONSTRAINT token_thresholds_user_id CHECK ((char_length(user_id) <= 200))
);

CREATE TABLE public.token_totals (
    user_id text DEFAULT ''::text NOT NULL COLLATE pg_catalog."C",
    provider text NOT NULL COLLATE pg_catalog."C",
    model text NOT NULL COLLATE pg_catalog."C",
    input numeric DEFAULT 0 NOT NULL,
    cache_read numeric DEFAULT 0 NOT NULL,
    cache_write numeric DEFAULT 0 NOT NULL,
    output numeric DEFAULT 0 NOT NULL,
    reasoning numeric DEFAULT 0 NOT NULL,
    other numeric DEFAULT 0 NOT NULL,
    requests bigint DEFAULT 0 NOT NULL,
    cost_usd numeric DEFAULT 0 NOT NULL,
    shown_input numeric DEFAULT 0 NOT NULL,
    shown_cache_read numeric DEFAULT 0 NOT NULL,
    shown_cache_write numeric DEFAULT 0 NOT NULL,
    shown_output numeric DEFAULT 0 NOT NULL,
    shown_reasoning numeric DEFAULT 0 NOT NULL,
    shown_other numeric DEFAULT 0 NOT NULL,
    shown_cost_usd numeric DEFAULT 0 NOT NULL,
    updated_at timestamp with time zone DEFAULT now() NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (fillfactor='70');

CREATE TABLE public.usage_burn (
    state_id uuid NOT NULL,
    sampled_at timestamp with time zone NOT NULL,
    used bigint NOT NULL,
    lim bigint,
    burn double precision,
    restarted_at timestamp with time zone DEFAULT '-infinity'::timestamp with time zone NOT NULL,
    dipped boolean DEFAULT false NOT NULL,
    exhausts_at timestamp with time zone
)
WITH (fillfactor='70');

CREATE VIEW public.usage_by_provider WITH (security_invoker='true') AS
 SELECT provider,
    count(DISTINCT model) AS models,
    count(DISTINCT user_id) FILTER (WHERE (user_id <> ''::text)) AS users,
    (sum(tokens_used))::bigint AS tokens_used,
    max(percentage) AS highest_percentage,
    max(reported_at) AS reported_at
   FROM ( SELECT current_usage.provider,
            current_usage.model,
            current_usage.user_id,
            max(current_usage.tokens_used) FILTER (WHERE (current_usage.unit = 'tokens'::text)) AS tokens_used,
            max(current_usage.percentage) AS percentage,
            max(current_usage.reported_at) AS reported_at
           FROM public.current_usage
          WHERE (('*'::text <> current_usage.provider) AND ('*'::text <> current_usage.model))
          GROUP BY current_usage.provider, current_usage.model, current_usage.user_id) counted
  GROUP BY provider;

CREATE TABLE public.usage_events (
    source text NOT NULL COLLATE pg_catalog."C",
    event_id text NOT NULL COLLATE pg_catalog."C",
    day date NOT NULL,
    "time" timestamp with time zone NOT NULL,
    user_id text DEFAULT ''::text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    input bigint DEFAULT 0 NOT NULL,
    cache_read bigint DEFAULT 0 NOT NULL,
    cache_write bigint DEFAULT 0 NOT NULL,
    output bigint DEFAULT 0 NOT NULL,
    reasoning bigint DEFAULT 0 NOT NULL,
    other bigint DEFAULT 0 NOT NULL,
    cost_usd numeric,
    corrections integer DEFAULT 0 NOT NULL,
    prev_input bigint,
    prev_cache_read bigint,
    prev_cache_write bigint,
    prev_output bigint,
    prev_reasoning bigint,
    prev_other bigint,
    prev_cost_usd numeric,
    generation integer DEFAULT 0 NOT NULL,
    received_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT usage_events_counts CHECK (((input >= 0) AND (cache_read >= 0) AND (cache_write >= 0) AND (output >= 0) AND (reasoning >= 0) AND (other >= 0) AND (cost_usd >= (0)::numeric)))
)
PARTITION BY RANGE (day);

CREATE TABLE public.usage_periods (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    user_id text DEFAULT ''::text NOT NULL,
    quota text NOT NULL,
    provider text NOT NULL,
    model text NOT NULL,
    period_start timestamp with time zone NOT NULL,
    period_end timestamp with time zone NOT NULL,
    unit text DEFAULT 'tokens'::text NOT NULL,
    tokens_used bigint NOT NULL,
    token_limit bigint,
    percentage double precision GENERATED ALWAYS AS (
CASE
    WHEN (token_limit > 0) THEN (((tokens_used)::double precision * (100.0)::double precision) / (token_limit)::double precision)
    ELSE NULL::double precision
END) STORED,
    reported_at timestamp with time zone NOT NULL,
    CONSTRAINT usage_periods_tokens_used CHECK ((tokens_used >= 0))
)
PARTITION BY RANGE (period_start);

CREATE TABLE public.usage_samples (
    state_id uuid NOT NULL,
    "time" timestamp with time zone NOT NULL,
    used bigint NOT NULL,
    lim bigint,
    burn double precision
)
PARTITION BY RANGE ("time");

CREATE TABLE public.vapid_keys (
    id text NOT NULL,
    public_key text NOT NULL,
    is_active boolean DEFAULT true NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE ONLY public.alerts
    ADD CONSTRAINT alerts_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (delivery_id, n);

ALTER TABLE ONLY public.channel_health
    ADD CONSTRAINT channel_health_pkey PRIMARY KEY (subject);

ALTER TABLE ONLY public.channels
    ADD CONSTRAINT channels_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT deliveries_target UNIQUE (notification_id, channel, target);

ALTER TABLE ONLY public.delivery_pauses
    ADD CONSTRAINT delivery_pauses_pkey PRIMARY KEY (origin);

ALTER TABLE ONLY public.digest_members
    ADD CONSTRAINT digest_members_pkey PRIMARY KEY (digest, notification);

ALTER TABLE ONLY public.digests
    ADD CONSTRAINT digests_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.forecasts
    ADD CONSTRAINT forecasts_pkey PRIMARY KEY (state_id);

ALTER TABLE ONLY public.leases
    ADD CONSTRAINT leases_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.metric_folding
    ADD CONSTRAINT metric_folding_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.metric_users
    ADD CONSTRAINT metric_users_pkey PRIMARY KEY (user_id);

ALTER TABLE ONLY public.notification_history
    ADD CONSTRAINT notification_history_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.notification_history
    ADD CONSTRAINT notification_history_transition UNIQUE (alert_id, seq);

ALTER TABLE ONLY public.outages
    ADD CONSTRAINT outages_pkey PRIMARY KEY (began);

ALTER TABLE ONLY public.push_subscriptions
    ADD CONSTRAINT push_subscriptions_endpoint UNIQUE (endpoint_hash);

ALTER TABLE ONLY public.push_subscriptions
    ADD CONSTRAINT push_subscriptions_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.quota_periods
    ADD CONSTRAINT quota_periods_pkey PRIMARY KEY (quota, period_start);

ALTER TABLE ONLY public.quotabell_migrations
    ADD CONSTRAINT quotabell_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.quotas
    ADD CONSTRAINT quotas_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.rearm_scopes
    ADD CONSTRAINT rearm_scopes_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.rounds
    ADD CONSTRAINT rounds_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.series_marks
    ADD CONSTRAINT series_marks_pkey PRIMARY KEY (source, series_key, start_time);

ALTER TABLE ONLY public.settings
    ADD CONSTRAINT settings_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.silences
    ADD CONSTRAINT silences_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.source_signals
    ADD CONSTRAINT source_signals_pkey PRIMARY KEY (source);

ALTER TABLE ONLY public.sources
    ADD CONSTRAINT sources_pkey PRIMARY KEY (name);

ALTER TABLE ONLY public.token_thresholds
    ADD CONSTRAINT token_thresholds_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.token_thresholds
    ADD CONSTRAINT token_thresholds_scope UNIQUE (provider, user_id, threshold_percentage);

ALTER TABLE ONLY public.token_totals
    ADD CONSTRAINT token_totals_pkey PRIMARY KEY (user_id, provider, model);

ALTER TABLE ONLY public.token_usage
    ADD CONSTRAINT token_usage_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.token_usage
    ADD CONSTRAINT token_usage_state UNIQUE (user_id, quota, provider, model, period_start);

ALTER TABLE ONLY public.usage_burn
    ADD CONSTRAINT usage_burn_pkey PRIMARY KEY (state_id);

ALTER TABLE ONLY public.usage_events
    ADD CONSTRAINT usage_events_pkey PRIMARY KEY (source, event_id, day);

ALTER TABLE ONLY public.usage_periods
    ADD CONSTRAINT usage_periods_pkey PRIMARY KEY (user_id, quota, provider, model, period_start);

ALTER TABLE ONLY public.usage_samples
    ADD CONSTRAINT usage_samples_pkey PRIMARY KEY (state_id, "time");

ALTER TABLE ONLY public.vapid_keys
    ADD CONSTRAINT vapid_keys_pkey PRIMARY KEY (id);

CREATE INDEX alerts_by_user ON public.alerts USING btree (user_id, started_at DESC, id);

CREATE INDEX alerts_ended ON public.alerts USING btree (ended_at, id) WHERE (status = 'resolved'::text);

CREATE INDEX alerts_firing_of_name ON public.alerts USING btree (user_id, quota, provider, model, kind, subject) WHERE ((status = 'firing'::text) AND (user_id IS NOT NULL));

CREATE UNIQUE INDEX alerts_firing_of_state ON public.alerts USING btree (state_id, kind) WHERE (status = 'firing'::text);

CREATE INDEX alerts_forecasts ON public.alerts USING btree (state_id) WHERE ((kind = 'forecast'::text) AND (status = 'firing'::text));

CREATE INDEX alerts_to_repeat ON public.alerts USING btree (told_at) WHERE ((status = 'firing'::text) AND (acknowledged_at IS NULL) AND ((kind = 'forecast'::text) OR ((kind = 'threshold'::text) AND (level >= (100)::double precision))));

CREATE INDEX alerts_unannounced ON public.alerts USING btree (id) WHERE (announced_seq < seq);

CREATE INDEX attempts_started ON public.attempts USING brin (started_at) WITH (pages_per_range='16', autosummarize='on');

CREATE UNIQUE INDEX attempts_under_way ON public.attempts USING btree (lane) WHERE (outcome IS NULL);

CREATE INDEX deliveries_due ON public.deliveries USING btree (asked, origin, due, id) WHERE open;

CREATE INDEX deliveries_due_first ON public.deliveries USING btree (asked, due, origin) WHERE open;

CREATE INDEX deliveries_failed_of_lane ON public.deliveries USING btree (lane, place) WHERE ((lane IS NOT NULL) AND (NOT open) AND (NOT arrived));

CREATE INDEX deliveries_open_of_lane ON public.deliveries USING btree (lane, place) WHERE ((lane IS NOT NULL) AND open);

CREATE INDEX deliveries_sent_of_lane ON public.deliveries USING btree (lane, place) WHERE ((lane IS NOT NULL) AND arrived);

CREATE INDEX deliveries_waiting ON public.deliveries USING btree (waits_for) WHERE (open AND (waits_for IS NOT NULL));

CREATE INDEX digest_members_of_notification ON public.digest_members USING btree (notification);

CREATE INDEX digest_members_of_state ON public.digest_members USING btree (state_id, kind, place) WHERE (NOT superseded);

CREATE INDEX digests_open ON public.digests USING btree (closes_at);

CREATE INDEX notification_history_of_user ON public.notification_history USING btree (user_id, created_at DESC, id);

CREATE INDEX notification_history_pending ON public.notification_history USING btree (created_at, id) WHERE (status = 'pending'::text);

CREATE INDEX notification_history_recent ON public.notification_history USING btree (created_at DESC, id);

CREATE INDEX notification_history_silenced ON public.notification_history USING btree (alert_id, seq) WHERE (silence_id IS NOT NULL);

CREATE INDEX notification_history_unqueued ON public.notification_history USING btree (((alert_id IS NULL)), created_at, id) WHERE ((status = 'pending'::text) AND (enqueued_at IS NULL));

CREATE INDEX push_subscriptions_active ON public.push_subscriptions USING btree (user_id) WHERE is_active;

CREATE INDEX push_subscriptions_ended ON public.push_subscriptions USING btree (updated_at) WHERE (NOT is_active);

CREATE INDEX rearm_scopes_waiting ON public.rearm_scopes USING btree (provider, user_id) WHERE (writers IS NULL);

CREATE INDEX silences_ending ON public.silences USING btree (ends_at);

CREATE INDEX token_thresholds_lowest ON public.token_thresholds USING btree (threshold_percentage) WHERE is_active;

CREATE INDEX usage_burn_exhausting ON public.usage_burn USING btree (state_id) WHERE (exhausts_at IS NOT NULL);

CREATE TRIGGER quotabell_alert_told BEFORE UPDATE OF seq ON public.alerts FOR EACH ROW WHEN ((new.seq <> old.seq)) EXECUTE FUNCTION public.quotabell_alert_told();

CREATE TRIGGER quotabell_announced AFTER UPDATE OF status ON public.notification_history FOR EACH ROW WHEN (((new.alert_id IS NOT NULL) AND (old.status = 'pending'::text) AND (new.status <> 'pending'::text))) EXECUTE FUNCTION public.quotabell_announced();

CREATE TRIGGER quotabell_delete_attempts AFTER DELETE ON public.deliveries REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION public.quotabell_delete_attempts();

CREATE TRIGGER quotabell_endpoint BEFORE INSERT OR UPDATE OF subscription, endpoint_hash ON public.push_subscriptions FOR EACH ROW EXECUTE FUNCTION public.quotabell_endpoint();

CREATE TRIGGER quotabell_interval_shortened AFTER UPDATE OF min_interval ON public.settings FOR EACH ROW WHEN ((new.min_interval < old.min_interval)) EXECUTE FUNCTION public.quotabell_interval_shortened();

CREATE TRIGGER quotabell_rearm_queued BEFORE INSERT ON public.rearm_scopes FOR EACH ROW WHEN ((new.writers IS NULL)) EXECUTE FUNCTION public.quotabell_rearm_queued();

CREATE TRIGGER quotabell_reopen AFTER UPDATE OF period_end ON public.token_usage FOR EACH ROW WHEN ((old.period_end IS DISTINCT FROM new.period_end)) EXECUTE FUNCTION public.quotabell_ring_trigger();

CREATE TRIGGER quotabell_ring AFTER INSERT OR UPDATE ON public.token_usage FOR EACH ROW WHEN (((new.percentage >= new.alert_at) OR (new.percentage < new.resolve_at) OR ((new.percentage IS NULL) AND (new.resolve_at > '-Infinity'::double precision)))) EXECUTE FUNCTION public.quotabell_ring_trigger();

CREATE TRIGGER quotabell_settings_changed AFTER UPDATE OF default_thresholds, hysteresis ON public.settings FOR EACH ROW WHEN (((old.default_thresholds <> new.default_thresholds) OR (old.hysteresis <> new.hysteresis))) EXECUTE FUNCTION public.quotabell_settings_changed();

CREATE TRIGGER quotabell_skip_failing BEFORE INSERT ON public.deliveries FOR EACH ROW WHEN ((new.kind = 'channel'::text)) EXECUTE FUNCTION public.quotabell_skip_failing();

CREATE TRIGGER quotabell_target_is_no_id AFTER INSERT OR UPDATE OF channel, target ON public.deliveries FOR EACH ROW WHEN (((new.channel = 'webpush'::text) AND (new.target !~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'::text))) EXECUTE FUNCTION public.quotabell_target_is_no_id();

CREATE TRIGGER quotabell_thresholds_bounded BEFORE INSERT OR UPDATE OF provider, user_id ON public.token_thresholds FOR EACH ROW EXECUTE FUNCTION public.quotabell_thresholds_bounded();

CREATE TRIGGER quotabell_thresholds_deleted AFTER DELETE ON public.token_thresholds REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.quotabell_thresholds_changed();

CREATE TRIGGER quotabell_thresholds_inserted AFTER INSERT ON public.token_thresholds REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.quotabell_thresholds_changed();

CREATE TRIGGER quotabell_thresholds_truncated AFTER TRUNCATE ON public.token_thresholds FOR EACH STATEMENT EXECUTE FUNCTION public.quotabell_thresholds_changed();

CREATE TRIGGER quotabell_thresholds_updated AFTER UPDATE ON public.token_thresholds REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.quotabell_thresholds_changed();

CREATE TRIGGER quotabell_touch BEFORE UPDATE ON public.push_subscriptions FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.quotabell_touch();

CREATE TRIGGER quotabell_touch BEFORE UPDATE ON public.settings FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.quotabell_touch();

CREATE TRIGGER quotabell_touch BEFORE UPDATE ON public.silences FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.quotabell_touch();

CREATE TRIGGER quotabell_touch BEFORE UPDATE ON public.token_thresholds FOR EACH ROW WHEN ((old.* IS DISTINCT FROM new.*)) EXECUTE FUNCTION public.quotabell_touch();

ALTER TABLE ONLY public.deliveries
    ADD CONSTRAINT deliveries_notification_id_fkey FOREIGN KEY (notification_id) REFERENCES public.notification_history(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.digest_members
    ADD CONSTRAINT digest_members_digest_fkey FOREIGN KEY (digest) REFERENCES public.digests(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.digest_members
    ADD CONSTRAINT digest_members_notification_fkey FOREIGN KEY (notification) REFERENCES public.notification_history(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.digests
    ADD CONSTRAINT digests_id_fkey FOREIGN KEY (id) REFERENCES public.notification_history(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.quota_periods
    ADD CONSTRAINT quota_periods_quota FOREIGN KEY (quota) REFERENCES public.quotas(name) ON DELETE CASCADE;

ALTER TABLE public.alerts ENABLE ROW LEVEL SECURITY;

CREATE POLICY alerts_own ON public.alerts FOR SELECT USING ((user_id = ( SELECT public.quotabell_subject() AS quotabell_subject)));

ALTER TABLE public.attempts ENABLE ROW LEVEL SECURITY;

CREATE POLICY attempts_own ON public.attempts FOR SELECT USING ((EXISTS ( SELECT
   FROM public.deliveries d
  WHERE (d.id = attempts.delivery_id))));

ALTER TABLE public.channel_health ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.channels ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.deliveries ENABLE ROW LEVEL SECURITY;

CREATE POLICY deliveries_own ON public.deliveries FOR SELECT USING (((channel = 'webpush'::text) AND (EXISTS ( SELECT
   FROM public.notification_history h
  WHERE ((h.id = deliveries.notification_id) AND (h.user_id = ( SELECT public.quotabell_subject() AS quotabell_subject)))))));

ALTER TABLE public.delivery_pauses ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.digest_members ENABLE ROW LEVEL SECURITY;

CREATE POLICY digest_members_own ON public.digest_members FOR SELECT USING ((EXISTS ( SELECT
   FROM public.notification_history h
  WHERE ((h.id = digest_members.notification) AND (h.user_id = ( SELECT public.quotabell_subject() AS quotabell_subject))))));

ALTER TABLE public.digests ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.forecasts ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.leases ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.metric_folding ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.metric_users ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.notification_history ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.outages ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.push_subscriptions ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.quota_periods ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.quotabell_migrations ENABLE ROW LEVEL SECURITY;

CREATE POLICY quotabell_own ON public.notification_history FOR SELECT USING ((user_id = ( SELECT public.quotabell_subject() AS quotabell_subject)));

CREATE POLICY quotabell_own ON public.push_subscriptions USING ((user_id = ( SELECT public.quotabell_subject() AS quotabell_subject))) WITH CHECK ((user_id = ( SELECT public.quotabell_subject() AS quotabell_subject)));

CREATE POLICY quotabell_own ON public.token_thresholds USING ((user_id = ( SELECT public.quotabell_subject() AS quotabell_subject))) WITH CHECK ((user_id = ( SELECT public.quotabell_subject() AS quotabell_subject)));

CREATE POLICY quotabell_own ON public.token_usage FOR SELECT USING ((user_id = ( SELECT public.quotabell_subject() AS quotabell_subject)));

CREATE POLICY quotabell_shared ON public.quota_periods FOR SELECT USING ((( SELECT public.quotabell_subject() AS quotabell_subject) IS NOT NULL));

CREATE POLICY quotabell_shared ON public.token_thresholds FOR SELECT USING (((user_id = ''::text) AND (( SELECT public.quotabell_subject() AS quotabell_subject) IS NOT NULL)));

ALTER TABLE public.quotas ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.rearm_scopes ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.rounds ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.series_marks ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.settings ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.silences ENABLE ROW LEVEL SECURITY;

CREATE POLICY silences_own ON public.silences FOR SELECT USING ((user_id = ( SELECT public.quotabell_subject() AS quotabell_subject)));

ALTER TABLE public.source_signals ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.sources ENABLE ROW LEVEL SECURITY;

CREATE POLICY sources_own ON public.sources FOR SELECT USING ((user_id = ( SELECT public.quotabell_subject() AS quotabell_subject)));

ALTER TABLE public.token_thresholds ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.token_totals ENABLE ROW LEVEL SECURITY;

CREATE POLICY token_totals_own ON public.token_totals FOR SELECT USING ((user_id = ( SELECT public.quotabell_subject() AS quotabell_subject)));

ALTER TABLE public.token_usage ENABLE ROW LEVEL SECURITY;

ALTER TABLE public.usage_burn ENABLE ROW LEVEL SECURITY;

CREATE POLICY usage_burn_own ON public.usage_burn FOR SELECT USING ((state_id IN ( SELECT token_usage.id
   FROM public.token_usage)));

ALTER TABLE public.usage_events ENABLE ROW LEVEL SECURITY;

CREATE POLICY usage_events_own ON public.usage_events FOR SELECT USING ((user_id = ( SELECT public.quotabell_subject() AS quotabell_subject)));

ALTER TABLE public.usage_periods ENABLE ROW LEVEL SECURITY;

CREATE POLICY usage_periods_own ON public.usage_periods FOR SELECT USING ((user_id = ( SELECT public.quotabell_subject() AS quotabell_subject)));

ALTER TABLE public.usage_samples ENABLE ROW LEVEL SECURITY;

CREATE POLICY usage_samples_own ON public.usage_samples FOR SELECT USING ((state_id IN ( SELECT token_usage.id
   FROM public.token_usage)));

ALTER TABLE public.vapid_keys ENABLE ROW LEVEL SECURITY;

REVOKE ALL ON FUNCTION public.quotabell_alert_subject_id(of_kind text, of_subject text) FROM PUBLIC;
GRANT ALL ON FUNCTION public.quotabell_alert_subject_id(of_kind text, of_subject text) TO quotabell_reader;

REVOKE ALL ON FUNCTION public.quotabell_alert_told() FROM PUBLIC;

GRANT SELECT ON TABLE public.alerts TO quotabell_reader;

REVOKE ALL ON FUNCTION public.quotabell_announce(a public.alerts) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_announce_subject(a public.alerts) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_announced() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_channel_serves(h public.channel_health) FROM PUBLIC;

GRANT SELECT ON TABLE public.notification_history TO quotabell_reader;

REVOKE ALL ON FUNCTION public.quotabell_channels(h public.notification_history) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_delete_attempts() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_endpoint() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_forecast(state uuid, action text, why text, silent boolean, facts jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_forecast_safely(state uuid, action text, why text, silent boolean, facts jsonb) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_interval_shortened() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_keep_parts(parent regclass, every text, first date, last date) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_lately(blocks integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_lowest_threshold() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_name(quota text, provider text, model text) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_protect(VARIADIC names text[]) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_rearm(batch integer) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_rearm_queued() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_ring(state uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_ring_safely(state uuid) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_ring_trigger() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_settings_changed() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_silence(of_provider text, of_model text, of_user text, of_quota text, of_kind text) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_skip_failing() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_span(span interval) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_subject() FROM PUBLIC;
GRANT ALL ON FUNCTION public.quotabell_subject() TO quotabell_reader;

REVOKE ALL ON FUNCTION public.quotabell_target_is_no_id() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_thresholds(of_quota text, of_provider text, of_user text) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_thresholds_bounded() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_thresholds_changed() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_tokens(n bigint) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_touch() FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_unheard(since timestamp with time zone) FROM PUBLIC;

REVOKE ALL ON FUNCTION public.quotabell_writers() FROM PUBLIC;

GRANT SELECT ON TABLE public.active_alerts TO quotabell_reader;

GRANT SELECT ON TABLE public.attempts TO quotabell_reader;

GRANT SELECT ON TABLE public.quota_periods TO quotabell_reader;

GRANT SELECT ON TABLE public.token_usage TO quotabell_reader;

GRANT SELECT ON TABLE public.current_usage TO quotabell_reader;

GRANT SELECT ON TABLE public.deliveries TO quotabell_reader;

GRANT SELECT ON TABLE public.digest_members TO quotabell_reader;

GRANT SELECT ON TABLE public.notification_log TO quotabell_reader;

GRANT SELECT,DELETE ON TABLE public.push_subscriptions TO quotabell_reader;

GRANT INSERT(id) ON TABLE public.push_subscriptions TO quotabell_reader;

GRANT INSERT(user_id) ON TABLE public.push_subscriptions TO quotabell_reader;

GRANT INSERT(subscription),UPDATE(subscription) ON TABLE public.push_subscriptions TO quotabell_reader;

GRANT INSERT(is_active),UPDATE(is_active) ON TABLE public.push_subscriptions TO quotabell_reader;

GRANT SELECT ON TABLE public.silences TO quotabell_reader;

GRANT SELECT ON TABLE public.sources TO quotabell_reader;

GRANT SELECT,INSERT,DELETE,UPDATE ON TABLE public.token_thresholds TO quotabell_reader;

GRANT SELECT ON TABLE public.token_totals TO quotabell_reader;

GRANT SELECT ON TABLE public.usage_burn TO quotabell_reader;

GRANT SELECT ON TABLE public.usage_by_provider TO quotabell_reader;

GRANT SELECT ON TABLE public.usage_events TO quotabell_reader;

GRANT SELECT ON TABLE public.usage_periods TO quotabell_reader;

GRANT SELECT ON TABLE public.usage_samples TO quotabell_reader;

INSERT INTO public.settings DEFAULT VALUES;

INSERT INTO public.quotabell_migrations (version) VALUES
    ('20261122000001'),
    ('20261122000002'),
    ('20261122000003'),
    ('20261122000004'),
    ('20261122000101'),
    ('20261122000102'),
    ('20261122000103'),
    ('20261122000201'),
    ('20261122000301'),
    ('20261122000302'),
    ('20261122000303'),
    ('20261122000304'),
    ('20261122000305'),
    ('20261122000401'),
    ('20261122000501'),
    ('20261122000601'),
    ('20261122000701'),
    ('20261122000702'),
    ('20261122000801'),
    ('20261122000901');

SELECT public.quotabell_protect(
    'alerts',
    'attempts',
    'channel_health',
    'channels',
    'deliveries',
    'delivery_pauses',
    'digest_members',
    'digests',
    'forecasts',
    'leases',
    'metric_folding',
    'metric_users',
    'notification_history',
    'outages',
    'push_subscriptions',
    'quota_periods',
    'quotabell_migrations',
    'quotas',
    'rearm_scopes',
    'rounds',
    'series_marks',
    'settings',
    'silences',
    'source_signals',
    'sources',
    'token_thresholds',
    'token_totals',
    'token_usage',
    'usage_burn',
    'usage_events',
    'usage_periods',
    'usage_samples',
    'vapid_keys',
    'active_alerts',
    'current_usage',
    'notification_deliveries',
    'notification_log',
    'usage_by_provider',
    'quotabell_alert_subject_id(text,text)',
    'quotabell_alert_told()',
    'quotabell_announce(public.alerts)',
    'quotabell_announce_subject(public.alerts)',
    'quotabell_announced()',
    'quotabell_channel_serves(public.channel_health)',
    'quotabell_channels(public.notification_history)',
    'quotabell_delete_attempts()',
    'quotabell_endpoint()',
    'quotabell_forecast(uuid,text,text,boolean,jsonb)',
    'quotabell_forecast_safely(uuid,text,text,boolean,jsonb)',
    'quotabell_interval_shortened()',
    'quotabell_keep_parts(regclass,text,date,date)',
    'quotabell_lately(integer)',
    'quotabell_lowest_threshold()',
    'quotabell_name(text,text,text)',
    'quotabell_protect(text[])',
    'quotabell_rearm(integer)',
    'quotabell_rearm_queued()',
    'quotabell_ring(uuid)',
    'quotabell_ring_safely(uuid)',
    'quotabell_ring_trigger()',
    'quotabell_settings_changed()',
    'quotabell_silence(text,text,text,text,text)',
    'quotabell_skip_failing()',
    'quotabell_span(interval)',
    'quotabell_subject()',
    'quotabell_target_is_no_id()',
    'quotabell_thresholds(text,text,text)',
    'quotabell_thresholds_bounded()',
    'quotabell_thresholds_changed()',
    'quotabell_tokens(bigint)',
    'quotabell_touch()',
    'quotabell_unheard(timestamp with time zone)',
    'quotabell_writers()');

COMMIT;
