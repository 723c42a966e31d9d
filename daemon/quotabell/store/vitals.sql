-- Statements about how the database itself is doing. They read its catalog and statistics only.

-- tables: of these tables bytes with indexes, rows alive and dead as the statistics have them, and
-- how many partitions there are and until when; NULL where it is not kept in partitions
with listed as (
    select name, c.oid, c.relkind
    from unnest($1::text[]) as name
    join pg_class c on c.oid = to_regclass(format('public.%I', name))
), parts as (
    select l.name, c.oid,
        substring(pg_get_expr(c.relpartbound, c.oid) from $re$ TO \('([^']+)'\)$re$)::timestamptz
            as ends
    from listed l
    join pg_inherits i on i.inhparent = l.oid and not i.inhdetachpending
    join pg_class c on c.oid = i.inhrelid
), relations as (
    select name, oid from listed
    union all
    select name, oid from parts
)
select r.name,
    sum(pg_total_relation_size(r.oid))::bigint as bytes,
    sum(pg_stat_get_live_tuples(r.oid))::bigint as live_rows,
    sum(pg_stat_get_dead_tuples(r.oid))::bigint as dead_rows,
    case when l.relkind = 'p' then count(*) - 1 end as partitions,
    (select max(ends) from parts p where p.name = r.name) as partitions_end
from relations r join listed l using (name)
group by r.name, l.relkind
order by r.name;

-- oldest_transaction: for how many seconds the oldest transaction of this database has been open,
-- prepared ones included, as far as this role may see them
select greatest(
    0,
    (select max(extract(epoch from clock_timestamp() - xact_start)) from pg_stat_activity
        where datname = current_database() and backend_type = 'client backend'),
    (select max(extract(epoch from clock_timestamp() - prepared)) from pg_prepared_xacts
        where database = current_database())
)::float8 as seconds;
