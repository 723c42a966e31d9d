-- Statements about usage events (table usage_events) and their running sums (token_totals).

-- midnight: taken by batches with events near midnight, which are looked up under two days: of
-- two replicas with the two halves of one call, the second must see the first's
select pg_advisory_xact_lock($1);

-- stored: which keys are there already
select e.source, e.event_id, e.day
from unnest($1::text[], $2::text[], $3::date[]) as k (source, event_id, day)
join usage_events e using (source, event_id, day);

-- known: what is stored under these keys
select e.source, e.event_id, e.day, e.time, e.provider, e.model, e.user_id,
    e.input, e.cache_read, e.cache_write, e.output, e.reasoning, e.other
from unnest($1::text[], $2::text[], $3::date[]) as k (source, event_id, day)
join usage_events e using (source, event_id, day);

-- insert: store events, one row a call; a larger repeat replaces the token kinds, keeps their
-- former values and is returned like a new one, others are not. Sorted by key, so that
-- concurrent writers never deadlock.
insert into usage_events as e (
    source, event_id, day, time, user_id, provider, model,
    input, cache_read, cache_write, output, reasoning, other, cost_usd, generation
)
select
    i.source, i.event_id, i.day, i.time, i.user_id, i.provider, i.model,
    i.input, i.cache_read, i.cache_write, i.output, i.reasoning, i.other, i.cost_usd, s.generation
from settings s, unnest(
    $1::text[], $2::text[], $3::date[], $4::timestamptz[], $5::text[], $6::text[], $7::text[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[],
    $14::numeric[]
) as i (
    source, event_id, day, time, user_id, provider, model,
    input, cache_read, cache_write, output, reasoning, other, cost_usd
)
order by i.source collate "C", i.event_id collate "C", i.day
on conflict (source, event_id, day) do update set
    input = excluded.input,
    cache_read = excluded.cache_read,
    cache_write = excluded.cache_write,
    output = excluded.output,
    reasoning = excluded.reasoning,
    other = excluded.other,
    cost_usd = coalesce(excluded.cost_usd, e.cost_usd),
    prev_input = e.input,
    prev_cache_read = e.cache_read,
    prev_cache_write = e.cache_write,
    prev_output = e.output,
    prev_reasoning = e.reasoning,
    prev_other = e.other,
    prev_cost_usd = e.cost_usd,
    corrections = e.corrections + 1
where excluded.input + excluded.cache_read + excluded.cache_write + excluded.output
        + excluded.reasoning + excluded.other
    > e.input + e.cache_read + e.cache_write + e.output + e.reasoning + e.other
returning
    e.source, e.event_id, e.day, e.time, e.user_id, e.provider, e.model,
    e.input, e.cache_read, e.cache_write, e.output, e.reasoning, e.other, e.cost_usd,
    e.corrections > 0 as corrected,
    e.prev_input, e.prev_cache_read, e.prev_cache_write, e.prev_output, e.prev_reasoning,
    e.prev_other, e.prev_cost_usd,
    e.generation, (select generation from settings) as in_force;

-- totals: add to the running sums, sorted by key; what is shown never falls
insert into token_totals as t (
    user_id, provider, model, input, cache_read, cache_write, output, reasoning, other,
    requests, cost_usd, shown_input, shown_cache_read, shown_cache_write, shown_output,
    shown_reasoning, shown_other, shown_cost_usd
)
select i.user_id, i.provider, i.model, i.input, i.cache_read, i.cache_write, i.output,
    i.reasoning, i.other, i.requests, i.cost_usd, i.input, i.cache_read, i.cache_write, i.output,
    i.reasoning, i.other, i.cost_usd
from unnest(
    $1::text[], $2::text[], $3::text[], $4::numeric[], $5::numeric[], $6::numeric[],
    $7::numeric[], $8::numeric[], $9::numeric[], $10::bigint[], $11::numeric[]
) as i (
    user_id, provider, model, input, cache_read, cache_write, output, reasoning, other,
    requests, cost_usd
)
order by i.user_id collate "C", i.provider collate "C", i.model collate "C"
on conflict (user_id, provider, model) do update set
    input = t.input + excluded.input,
    cache_read = t.cache_read + excluded.cache_read,
    cache_write = t.cache_write + excluded.cache_write,
    output = t.output + excluded.output,
    reasoning = t.reasoning + excluded.reasoning,
    other = t.other + excluded.other,
    requests = t.requests + excluded.requests,
    cost_usd = t.cost_usd + excluded.cost_usd,
    shown_input = greatest(t.shown_input, t.input + excluded.input),
    shown_cache_read = greatest(t.shown_cache_read, t.cache_read + excluded.cache_read),
    shown_cache_write = greatest(t.shown_cache_write, t.cache_write + excluded.cache_write),
    shown_output = greatest(t.shown_output, t.output + excluded.output),
    shown_reasoning = greatest(t.shown_reasoning, t.reasoning + excluded.reasoning),
    shown_other = greatest(t.shown_other, t.other + excluded.other),
    shown_cost_usd = greatest(t.shown_cost_usd, t.cost_usd + excluded.cost_usd),
    updated_at = now()
returning user_id, provider, model, shown_input, shown_cache_read, shown_cache_write,
    shown_output, shown_reasoning, shown_other, requests, shown_cost_usd;

-- current_totals: every running sum as it is shown, for /metrics
select user_id, provider, model, shown_input, shown_cache_read, shown_cache_write,
    shown_output, shown_reasoning, shown_other, requests, shown_cost_usd
from token_totals;
