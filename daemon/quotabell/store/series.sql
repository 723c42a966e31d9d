-- Statements about how far cumulative series have been counted (table series_marks).

-- move: move marks, and say where they were. Sorted by key, so that concurrent writers never
-- deadlock. Of a run with a start the value never falls; without one a fall is a restart.
insert into series_marks as m (source, series_key, start_time, last_value, last_time)
select i.source, i.series_key, i.start_time, i.last_value, i.last_time
from unnest($1::text[], $2::text[], $3::timestamptz[], $4::bigint[], $5::timestamptz[])
    as i (source, series_key, start_time, last_value, last_time)
order by i.source collate "C", i.series_key collate "C", i.start_time
on conflict (source, series_key, start_time) do update set
    last_value = case
        when excluded.last_time <= m.last_time then m.last_value
        when m.start_time = 'epoch' then excluded.last_value
        else greatest(m.last_value, excluded.last_value) end,
    last_time = greatest(m.last_time, excluded.last_time),
    prev_value = m.last_value,
    prev_time = m.last_time,
    updated_at = now()
returning m.source, m.series_key, m.start_time, m.prev_value, m.prev_time,
    exists (
        select from series_marks o
        where o.source = m.source and o.series_key = m.series_key and o.start_time < m.start_time
    ) as restarted;

-- forget: delete marks of series that have not been reported for $1
delete from series_marks
where ctid = any (array(
    select ctid from series_marks where updated_at < now() - $1::interval
    order by updated_at limit $2 for update skip locked))
returning 1;
