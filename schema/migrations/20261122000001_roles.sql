-- migrate:up

set local lock_timeout = '30s';

-- Who may do what. Row policies are the same for everybody: a row belongs to the subject of the
-- verified token. What differs between roles is their grants:
--   the owner (the daemon)   everything; row security does not apply to it
--   quotabell_reader         what a user may see and do; the daemon steps down to it
--   authenticated            the same, on hosted servers that have this role
--   service_role             all rows of what users may see, where it exists
--   PUBLIC, anon             nothing

-- Roles belong to the whole server: another database's Quotabell may have made ours already.
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

-- The user whom a verified token stands for; NULL without one, and no row equals that.
create function public.quotabell_subject() returns text
language sql stable
-- After a transaction that set the claims, an empty string stays in their place.
return nullif(
    nullif(pg_catalog.current_setting('request.jwt.claims', true), '')::json ->> 'sub', '');

grant execute on function public.quotabell_subject() to quotabell_reader;

-- Closes tables, views and functions ("name(types)") of the schema public to all but their
-- owner, then opens them to hosted roles as far as they are open to quotabell_reader: servers
-- like Supabase grant everything new to their roles by default. Each migration ends with it,
-- after its grants. Safe to repeat, for instance when such a role came later.
create function public.quotabell_protect(variadic names text[]) returns void
language plpgsql set search_path = pg_catalog
as $$
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

select public.quotabell_protect('quotabell_subject()', 'quotabell_protect(text[])');

-- Whoever could write here could keep later migrations from being applied.
select public.quotabell_protect(tablename) from pg_catalog.pg_tables
where schemaname = 'public' and tablename = 'quotabell_migrations';

-- migrate:down

drop function public.quotabell_protect(text[]);
drop function public.quotabell_subject();

-- The role stays if another database uses it, or if it is not ours to drop.
do $$
begin
    revoke usage on schema public from quotabell_reader;
    drop role quotabell_reader;
exception when dependent_objects_still_exist or insufficient_privilege then
    raise notice 'quotabell: the role quotabell_reader stays';
end $$;
