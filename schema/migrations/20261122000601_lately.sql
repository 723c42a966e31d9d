-- migrate:up

-- The events that were written last, up to so many blocks of today and, in the hour after midnight
-- (UTC), of yesterday. No index has to be kept for it, and its cost has a bound however many events
-- there are. `cut`: there are earlier ones.
create function public.quotabell_lately(blocks integer) returns table (
    cut boolean, received_at timestamptz, "time" timestamptz,
    user_id text, provider text, model text,
    input bigint, cache_read bigint, cache_write bigint, output bigint, reasoning bigint,
    other bigint
)
language plpgsql stable rows 2500
set search_path = pg_catalog, pg_temp
as $$
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

select public.quotabell_protect('quotabell_lately(integer)');

-- migrate:down

drop function public.quotabell_lately(integer);
