-- Statements about the signals of sources (table source_signals).

-- choose: the signal of source $1, which now also reports by $2 of rank $3
insert into source_signals as s (source, signal, rank, metrics_until)
select $1::text, $2::text, $3::integer, $4::timestamptz
where exists (select from source_signals where source = $1::text)
    or (select count(*) from source_signals) < $5::bigint
on conflict (source) do update set
    signal = case when excluded.rank > s.rank then excluded.signal else s.signal end,
    rank = greatest(s.rank, excluded.rank),
    seen_at = now(),
    metrics_until = case when s.signal = 'metrics' and excluded.signal = 'metrics'
        then greatest(s.metrics_until, excluded.metrics_until) else s.metrics_until end
returning signal, rank, metrics_until;

-- forget: delete the choices of sources of which nothing has come for $1
delete from source_signals where seen_at < now() - $1::interval;
