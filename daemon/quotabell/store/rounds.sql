-- Statements about the rounds of evaluation as all replicas know them (table rounds).

-- heard: somebody listens, and is to say so again within $1; what lies behind if that was not kept
-- is an outage. $2: whether sources are watched; NULL: as before
with old as materialized (
    select * from rounds for no key update
), outage as (
    insert into outages (began, ended)
    select heard_until, now() from old where next_by < now() and heard_until < now()
    on conflict (began) do update set ended = greatest(outages.ended, excluded.ended)
), forgotten as (
    delete from outages where ended < now() - interval '400 days'
)
update rounds r set
    heard_until = greatest(r.heard_until, now()),
    next_by = now() + $1::interval,
    heard_since = case when old.next_by < now() then now() else r.heard_since end,
    watched_since = case
        when $2::boolean is null then r.watched_since
        when $2 then coalesce(r.watched_since, now()) end
from old
returning case when old.next_by < now() then now() - old.heard_until end as outage;
