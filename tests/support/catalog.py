"""What a database's tables look like, in a form that can be compared."""

from __future__ import annotations

from tests.support.postgres import connected

_COLUMNS = """
select c.relname || '.' || a.attname,
    format_type(a.atttypid, a.atttypmod) || case when a.attnotnull then ' not null' else '' end
    || coalesce(case when a.attgenerated = '' then ' default ' else ' generated ' end
        || pg_get_expr(d.adbin, d.adrelid), '')
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v')
"""
_CONSTRAINTS = """
select c.relname || ' constraint ' || k.conname, pg_get_constraintdef(k.oid)
from pg_constraint k join pg_class c on c.oid = k.conrelid
where c.relnamespace = 'public'::regnamespace and k.contype <> 'n'
"""
_INDEXES = """
select 'index ' || i.indexrelid::regclass, pg_get_indexdef(i.indexrelid)
from pg_index i join pg_class c on c.oid = i.indrelid
where c.relnamespace = 'public'::regnamespace
"""
_TRIGGERS = """
select c.relname || ' trigger ' || t.tgname, pg_get_triggerdef(t.oid)
from pg_trigger t join pg_class c on c.oid = t.tgrelid
where c.relnamespace = 'public'::regnamespace and not t.tgisinternal
"""
_POLICIES = """
select tablename || ' policy ' || policyname,
    concat_ws(' ', permissive, roles, cmd, qual, with_check)
from pg_policies where schemaname = 'public'
"""
_RELATIONS = """
select relname::text, concat_ws(' ', relkind, 'rls', relrowsecurity, relforcerowsecurity,
    reloptions, case relkind when 'v' then pg_get_viewdef(oid) end)
from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'S')
"""
_FUNCTIONS = """
select 'function ' || oid::regprocedure, pg_get_functiondef(oid)
from pg_proc where pronamespace = 'public'::regnamespace
"""
_GRANTS = """
select c.relname || ' of ' || a.grantee::regrole || coalesce(' on ' || t.attname, ''),
    string_agg(a.privilege_type, ' ' order by a.privilege_type)
from pg_class c
left join pg_attribute t on t.attrelid = c.oid and t.attacl is not null
cross join aclexplode(coalesce(t.attacl, c.relacl)) a
where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v')
    and a.grantee <> c.relowner
group by 1
union all
select oid::regprocedure || ' of ' || grantee::regrole, privilege_type
from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner)))
where pronamespace = 'public'::regnamespace and grantee <> proowner
"""
_SCHEMAS = """
select 'schema ' || nspname, '' from pg_namespace
where nspname not like 'pg\\_%' and nspname not in ('information_schema', 'auth')
"""


async def catalog(dsn: str) -> dict[str, str]:
    """Every object of the schema public by name with its definition, and the schemas' names."""
    queries = (
        *(_COLUMNS, _CONSTRAINTS, _INDEXES, _TRIGGERS, _POLICIES),
        *(_RELATIONS, _FUNCTIONS, _GRANTS, _SCHEMAS),
    )
    async with connected(dsn) as connection:
        await connection.execute("set search_path = public")
        found = [row for query in queries for row in await connection.fetch(query)]
    return {key: value for key, value in found}
