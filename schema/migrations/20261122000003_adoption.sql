-- migrate:up

-- Takes over the tables that an older service left: token_usage, token_thresholds,
-- push_subscriptions, notification_history. They are altered in place, so that their grants,
-- publications and further columns stay. Their new shapes stand in quotabell_new; without any
-- there, nothing is to do.
set local lock_timeout = '30s';
set local statement_timeout = 0;
set local timezone = 'UTC'; -- of times without a zone
create schema if not exists quotabell_new;

-- The columns of each shape beside those of the table found.
create view quotabell_new.columns as
select shape.relname::text as name,
    found.oid as found,
    either.attname,
    new.attname is not null as ours,
    old.attname is null as missing,
    new.attgenerated <> '' as generated,
    new.attnotnull as required,
    new.attname is not null and (new.attgenerated <> '' or old.attgenerated <> ''
        or format_type(new.atttypid, new.atttypmod) <> format_type(old.atttypid, old.atttypmod))
        as differs,
    format_type(new.atttypid, new.atttypmod) as type,
    pg_get_expr(def.adbin, def.adrelid) as expression, -- the default, or how it is generated
    old.attnum as old_number,
    old.attnotnull and not old.atthasdef and old.attidentity = '' as demanding
from pg_class shape
join pg_class found
    on found.relname = shape.relname and found.relnamespace = 'public'::regnamespace
cross join lateral (
    select distinct attname from pg_attribute
    where attrelid in (shape.oid, found.oid) and attnum > 0 and not attisdropped
) either
left join pg_attribute new on new.attrelid = shape.oid and new.attname = either.attname
left join pg_attribute old on old.attrelid = found.oid and old.attname = either.attname
left join pg_attrdef def on def.adrelid = shape.oid and def.adnum = new.attnum
where shape.relnamespace = 'quotabell_new'::regnamespace and shape.relkind = 'r';

-- Stop, before anything is touched, at what must not be changed behind its owner's back.
create function quotabell_new.refuse() returns void
language plpgsql as $$
declare
    problems text;
begin
    select string_agg(distinct problem, '; ') into problems from (
        select format('%s is no plain table; rename it', c.oid::regclass)
        from quotabell_new.columns t join pg_class c on c.oid = t.found
        where c.relkind <> 'r'
        union all
        select format('%I has no column %I, so it is not the older service''s; rename it',
            t.name, t.attname)
        from quotabell_new.columns t
        where t.missing and (t.name, t.attname) in (
            ('token_usage', 'provider'), ('token_usage', 'model'), ('token_usage', 'tokens_used'),
            ('token_thresholds', 'provider'), ('token_thresholds', 'threshold_percentage'),
            ('push_subscriptions', 'subscription'), ('notification_history', 'title'))
        union all
        select format('the table %s belongs to %I; migrate as that role, or make %I its owner',
            c.oid::regclass, pg_get_userbyid(c.relowner), current_user)
        from quotabell_new.columns t join pg_class c on c.oid = t.found
        where not pg_has_role(c.relowner, 'USAGE')
        union all
        select format(
            'the view %1$s uses %2$I.%3$I, which has to change: keep its definition (select '
            'pg_get_viewdef(%4$L)), drop it, migrate, create it again',
            r.ev_class::regclass, t.name, t.attname, r.ev_class::regclass::text)
        from quotabell_new.columns t
        join pg_depend d on d.classid = 'pg_rewrite'::regclass
            and d.refclassid = 'pg_class'::regclass
            and d.refobjid = t.found and d.refobjsubid = t.old_number
        join pg_rewrite r on r.oid = d.objid and r.ev_class <> t.found
        where t.differs
        union all
        select format(
            'the generated column %1$I.%2$I uses %3$I, which has to change: drop it, migrate, '
            'add it again', t.name, g.attname, t.attname)
        from quotabell_new.columns t
        join pg_attrdef e on e.adrelid = t.found
        join pg_attribute g on g.attrelid = e.adrelid and g.attnum = e.adnum
        join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = e.oid
            and d.refclassid = 'pg_class'::regclass
            and d.refobjid = t.found and d.refobjsubid = t.old_number
        where t.differs and g.attgenerated <> '' and g.attname not in ('percentage', t.attname)
    ) as found (problem);
    if problems is not null then
        raise exception 'quotabell: %', problems;
    end if;
end $$;

-- What was done to a table is said now, and stays as a comment on it: dbmate shows no notices.
create function quotabell_new.note(relation regclass, note text) returns void
language plpgsql as $$
begin
    raise notice 'quotabell: %: %', relation, note;
    execute format('comment on table %s is %L', relation,
        concat_ws(E'\n', obj_description(relation, 'pg_class'), 'quotabell: ' || note));
end $$;

-- Drop what would guard or watch the table for the older service, each by its name: policies,
-- triggers, rules, all constraints but a primary key of id, and indexes that are unique, or that
-- every report would have to change.
create function quotabell_new.free(relation regclass) returns void
language plpgsql as $$
declare
    thing record;
begin
    execute format('alter table %s no force row level security', relation);
    if (select relreplident from pg_class where oid = relation) = 'i' then
        execute format('alter table %s replica identity default', relation);
    end if;
    for thing in
        select 'policy' as kind, format('%I', polname) as called, 'drop policy %s on %s' as command
        from pg_policy where polrelid = relation
        union all
        select 'trigger', format('%I', tgname), 'drop trigger %s on %s'
        from pg_trigger where tgrelid = relation and not tgisinternal
        union all
        select 'rule', format('%I', rulename), 'drop rule %s on %s'
        from pg_rewrite where ev_class = relation
        union all
        (select 'constraint', format('%I', conname), 'alter table %2$s drop constraint %1$s'
        from pg_constraint
        where conrelid = relation and (contype in ('f', 'c', 'u', 'x')
            or contype = 'p' and conkey <> array(
                select attnum from pg_attribute where attrelid = relation and attname = 'id'))
        order by contype <> 'f')
        union all
        select 'index', i.indexrelid::regclass::text, 'drop index %s'
        from pg_index i
        where i.indrelid = relation and not i.indisprimary
            and not exists (select from pg_constraint where conindid = i.indexrelid)
            and (i.indisunique or exists (
                select from pg_depend d
                join pg_attribute a on a.attrelid = d.refobjid and a.attnum = d.refobjsubid
                where relation = 'public.token_usage'::regclass and d.objid = i.indexrelid
                    and d.classid = 'pg_class'::regclass and d.refobjid = relation
                    and d.refclassid = 'pg_class'::regclass and a.attname in (
                        'tokens_used', 'token_limit', 'reported_at', 'updated_at')))
    loop
        execute format(thing.command, thing.called, relation);
        perform quotabell_new.note(relation, format('dropped %s %s', thing.kind, thing.called));
    end loop;
end $$;

-- What cannot be understood becomes NULL; what that means is decided for each column.
create function quotabell_new.to_number(value text) returns numeric
language sql immutable
return case when value ~ '^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d{1,3})?$' then value::numeric end;

create function quotabell_new.to_bigint(value text) returns bigint
language sql immutable
return least(greatest(quotabell_new.to_number(value), -9223372036854775808), 9223372036854775807);

create function quotabell_new.to_time(value text) returns timestamptz
language plpgsql stable as $$
begin
    return value::timestamptz;
exception when others then
    return null;
end $$;

create function quotabell_new.to_json(value text) returns jsonb
language plpgsql immutable as $$
begin
    return value::jsonb;
exception when others then
    return to_jsonb(value);
end $$;

create function quotabell_new.to_uuid(value text) returns uuid
language sql volatile
return case
    when value is null then gen_random_uuid()
    when value ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' then value::uuid
    else md5('quotabell: ' || value)::uuid
end;

create function quotabell_new.conversion(attname name, type text) returns text
language sql immutable
return format(
    case type
        when 'uuid' then 'quotabell_new.to_uuid(%1$I::text)'
        when 'bigint' then 'quotabell_new.to_bigint(%1$I::text)'
        when 'integer' then 'quotabell_new.to_bigint(%1$I::text)::integer'
        when 'double precision' then 'quotabell_new.to_number(%1$I::text)::float8'
        when 'boolean' then 'lower(%1$I::text) in (''t'', ''true'', ''1'', ''yes'', ''on'')'
        when 'jsonb' then 'quotabell_new.to_json(%1$I::text)'
        when 'timestamp with time zone' then 'quotabell_new.to_time(%1$I::text)'
        else '%1$I::' || type
    end, attname);

-- Give the table the columns of its shape, still without NOT NULL, and ask nothing more of those
-- that only the older service filled. Times that it did not note are left open here. The primary
-- key comes first of all: without one, rows of a published table could not be changed.
create function quotabell_new.widen(relation regclass) returns void
language plpgsql as $$
declare
    changes text;
    keyed constant boolean := exists (
        select from pg_constraint where conrelid = relation and contype = 'p');
begin
    if exists (select from quotabell_new.columns c
               where c.found = $1 and c.generated and not c.missing) then
        execute format('alter table %s drop column percentage', relation);
        perform quotabell_new.note(relation, 'replaced column percentage');
    end if;
    select string_agg(change, ', ') into changes from (
        select case when missing then 'add column id uuid default gen_random_uuid()'
            else 'alter column id drop identity if exists, alter column id drop default, '
                'alter column id type uuid using quotabell_new.to_uuid(id::text)' end
        from quotabell_new.columns c
        where c.found = $1 and attname = 'id' and (missing or differs or not keyed)
        union all
        select 'add primary key (id)' where not keyed
        union all
        select format('add column %I %s', attname, type) || case
            when expression is null or attname in ('reported_at', 'created_at', 'updated_at') then ''
            else ' default ' || expression end
        from quotabell_new.columns c
        where c.found = $1 and ours and missing and not generated and attname <> 'id'
        union all
        select format('alter column %1$I drop identity if exists, alter column %1$I drop default, '
            'alter column %1$I drop not null', attname) || case when differs
            then format(', alter column %I type %s using %s', attname, type,
                quotabell_new.conversion(attname, type)) else '' end
        from quotabell_new.columns c
        where c.found = $1 and ours and not missing and not generated and attname <> 'id'
        union all
        select format('alter column %I drop not null', attname)
        from quotabell_new.columns c where c.found = $1 and not ours and demanding
    ) as t (change);
    execute format('alter table %s %s', relation, changes);
end $$;

-- Of rows with the same key keep the one that comes first.
create function quotabell_new.keep_first(relation regclass, key text, ranking text) returns void
language plpgsql as $$
declare
    gone bigint;
begin
    execute format(
        'delete from %1$s where ctid in (select ctid from (select ctid, row_number() over '
        '(partition by %2$s order by %3$s) as place from %1$s) ranked where place > 1)',
        relation, key, ranking);
    get diagnostics gone = row_count;
    if gone > 0 then
        perform quotabell_new.note(relation, format('dropped duplicate rows: %s', gone));
    end if;
end $$;

-- Give the table everything else that its shape has.
create function quotabell_new.seal(relation regclass) returns void
language plpgsql as $$
declare
    shape constant regclass := (
        select 'quotabell_new.' || quote_ident(relname) from pg_class where oid = relation);
    step text;
begin
    for step in
        select format('update %s set %s where %s', relation,
            string_agg(format('%1$I = coalesce(%1$I, %2$s)', attname, expression), ', '),
            string_agg(format('%I is null', attname), ' or '))
        from quotabell_new.columns c
        where c.found = $1 and required and not generated and expression is not null
        union all
        select format('alter table %s rename constraint %I to %I', relation, old.conname, new.conname)
        from pg_constraint old join pg_constraint new on new.conrelid = shape and new.contype = 'p'
        where old.conrelid = relation and old.contype = 'p' and old.conname <> new.conname
        union all
        select format('alter table %s %s', relation, string_agg(change, ', ')) from (
            select format('alter column %I set default %s', attname, expression)
            from quotabell_new.columns c
            where c.found = $1 and expression is not null and not generated
            union all
            select format('alter column %I set not null', attname)
            from quotabell_new.columns c where c.found = $1 and required
            union all
            select format('add column %I %s generated always as (%s) stored',
                attname, type, expression)
            from quotabell_new.columns c where c.found = $1 and generated
            union all
            select format('add constraint %I %s', conname, pg_get_constraintdef(oid))
            from pg_constraint
            where conrelid = shape and contype in ('c', 'u')
            union all
            select format('set (%s)', array_to_string(reloptions, ', '))
            from pg_class where oid = shape and reloptions is not null
        ) as t (change)
        union all
        select replace(pg_get_indexdef(indexrelid), ' ON quotabell_new.', ' ON public.')
        from pg_index
        where indrelid = shape
            and not exists (select from pg_constraint where conindid = indexrelid)
        union all
        select replace(pg_get_triggerdef(oid), ' ON quotabell_new.', ' ON public.')
        from pg_trigger where tgrelid = shape and not tgisinternal
    loop
        execute step;
    end loop;
    perform quotabell_new.note(relation, format('taken over on %s', current_date));
    perform public.quotabell_protect(relname::text) from pg_class where oid = relation;
end $$;

do $$
declare
    adopted constant regclass[] := array(
        select format('public.%I', relname) from pg_class
        where relnamespace = 'quotabell_new'::regnamespace and relkind = 'r'
        order by relname);
    relation regclass;
begin
    perform quotabell_new.refuse();
    -- All of them first, and referring before referred: whoever writes meanwhile holds a table
    -- and asks for those that its foreign keys lead to.
    foreach relation in array adopted loop
        execute format('lock table %s in access exclusive mode', relation);
    end loop;
    foreach relation in array adopted loop
        perform quotabell_new.free(relation);
        perform quotabell_new.widen(relation);
    end loop;

    if to_regclass('public.token_usage') = any(adopted) then
        update public.token_usage t set
            user_id = left(coalesce(user_id, ''), 200),
            quota = coalesce(nullif(left(quota, 200), ''), 'reported'),
            provider = coalesce(nullif(left(provider, 200), ''), 'unknown'),
            model = coalesce(nullif(left(model, 200), ''), 'unknown'),
            unit = case when unit in ('tokens', 'requests', 'percent') then unit else 'tokens' end,
            tokens_used = greatest(tokens_used, 0),
            token_limit = nullif(greatest(token_limit, 0), 0),
            reported_at = least(now(), coalesce(
                reported_at, quotabell_new.to_time(to_jsonb(t) ->> 'timestamp'),
                updated_at, created_at));
        perform quotabell_new.keep_first('public.token_usage',
            'user_id, quota, provider, model, period_start',
            'reported_at desc, updated_at desc nulls last, ctid desc');
    end if;

    if to_regclass('public.token_thresholds') = any(adopted) then
        update public.token_thresholds set
            user_id = left(coalesce(user_id, ''), 200),
            provider = coalesce(nullif(left(provider, 200), ''), '*'),
            -- One that could never ring stays, out of use.
            threshold_percentage = case
                when threshold_percentage > 0 and threshold_percentage <= 1000
                then threshold_percentage else 1000 end,
            is_active = coalesce(is_active, true)
                and coalesce(threshold_percentage > 0 and threshold_percentage <= 1000, false);
        perform quotabell_new.keep_first('public.token_thresholds',
            'provider, user_id, threshold_percentage',
            'is_active desc, updated_at desc nulls last, ctid desc');
    end if;

    if to_regclass('public.push_subscriptions') = any(adopted) then
        update public.push_subscriptions set
            user_id = left(coalesce(user_id, ''), 200),
            -- Some clients store the JSON text as a JSON string.
            subscription = coalesce(case jsonb_typeof(subscription)
                when 'string' then quotabell_new.to_json(subscription #>> '{}')
                else subscription end, '{}');
        update public.push_subscriptions set
            endpoint_hash = encode(sha256(convert_to(coalesce(
                nullif(subscription ->> 'endpoint', ''), 'no endpoint: ' || id), 'UTF8')), 'hex'),
            is_active = coalesce(is_active, true)
                and coalesce(subscription ->> 'endpoint', '') <> '',
            reason = case when coalesce(subscription ->> 'endpoint', '') = ''
                then 'no endpoint' else reason end;
        perform quotabell_new.keep_first('public.push_subscriptions', 'endpoint_hash',
            'created_at desc nulls last, updated_at desc nulls last, ctid desc');
    end if;

    if to_regclass('public.notification_history') = any(adopted) then
        update public.notification_history t set
            user_id = left(coalesce(user_id, ''), 200),
            title = coalesce(nullif(title, ''), to_jsonb(t) ->> 'subject', 'Token usage'),
            body = coalesce(nullif(body, ''), to_jsonb(t) ->> 'message',
                to_jsonb(t) ->> 'content', ''),
            level = coalesce(level,
                quotabell_new.to_number(to_jsonb(t) ->> 'threshold_percentage')::float8),
            -- What else the older service knew of it.
            data = jsonb_strip_nulls(to_jsonb(t) - '{id,user_id,alert_id,seq,kind,transition,level,
                title,body,data,status,error,sent_at,created_at,updated_at,subject,message,
                content,error_message}'::text[])
                || coalesce(case jsonb_typeof(data) when 'object' then data
                    else jsonb_strip_nulls(jsonb_build_object('data', data)) end, '{}'),
            -- What still waits is out of date: nobody is to be woken for it.
            status = case
                when status in ('sent', 'failed', 'suppressed') then status
                when sent_at is not null then 'sent'
                else 'failed' end,
            error = coalesce(error, to_jsonb(t) ->> 'error_message', case
                when status in ('sent', 'failed', 'suppressed') or sent_at is not null then null
                else format('not sent by the older service (%s)', coalesce(status, 'no status'))
                end),
            created_at = coalesce(created_at, sent_at,
                quotabell_new.to_time(to_jsonb(t) ->> 'timestamp')),
            updated_at = coalesce(updated_at, sent_at, created_at);
    end if;

    foreach relation in array adopted loop
        perform quotabell_new.seal(relation);
    end loop;
end $$;

drop schema quotabell_new cascade;

-- migrate:down

-- The tables stay as they are; the migration before drops them.
select;
