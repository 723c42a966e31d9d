-- migrate:up

-- What waits until an interval is over waits no longer than the interval that is in force.
create function public.quotabell_interval_shortened() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    less constant interval := old.min_interval - new.min_interval;
begin
    update public.digests set closes_at = greatest(now(), closes_at - less)
    where held and closes_at > now();
    update public.deliveries d set due = greatest(now(), d.due - less)
    from (
        select id from public.deliveries
        where open and status = 'pending' and tries = 0 and waits_for is null and due > now()
            and (lane is not null or notification_id in (
                select id from public.digests where held))
        for no key update skip locked
    ) held
    where d.id = held.id;
    return null;
end $$;
create trigger quotabell_interval_shortened after update of min_interval on public.settings
for each row when (new.min_interval < old.min_interval)
execute function public.quotabell_interval_shortened();

select public.quotabell_protect('quotabell_interval_shortened()');

-- migrate:down

drop trigger quotabell_interval_shortened on public.settings;
drop function public.quotabell_interval_shortened();
