-- Statements about what is in a database.

-- tables: the tables of the schema public that are no partitions
select c.oid::regclass::text as name
from pg_class c
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
order by c.relname collate "C";

-- parts: how many tables hold the rows
select count(*) from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname in ('public', 'quotabell_parts') and c.relkind = 'r';

-- there: relations and functions of the schemas that a backup fills, but for those of extensions
select * from (
    select n.nspname || '.' || c.relname as name
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname in ('public', 'quotabell_parts') and c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')
        and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e')
    union all
    select n.nspname || '.' || p.proname || '()'
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    where n.nspname in ('public', 'quotabell_parts')
        and not exists (select from pg_depend d where d.objid = p.oid and d.deptype = 'e')
) found
order by name collate "C"
limit 5;

-- roles: the names of all roles
select rolname from pg_roles;
