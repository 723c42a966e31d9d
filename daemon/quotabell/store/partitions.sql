-- Statements about partitions.

-- keep: make the partitions of a table from one day to another; how many were missing
select quotabell_keep_parts(to_regclass($1::text), $2, $3::date, $4::date) as made;

-- parts: the partitions of a table, oldest first, with the end of each; also those that are
-- being detached, and those that were and are still there
select c.relname as name, i.inhrelid is not null as attached,
    coalesce(i.inhdetachpending, false) as detaching,
    (to_date(rpad(right(c.relname, -length($1) - 1), 8, '01'), 'YYYYMMDD')
        + ('1 ' || $2::text)::interval)::date as ends
from pg_class c
left join pg_inherits i on i.inhrelid = c.oid and i.inhparent = to_regclass($1::text)
where c.relnamespace = 'quotabell_parts'::regnamespace and c.relkind = 'r'
    and c.relname ~ ('^' || $1 || '_[0-9]+$')
order by 4;
