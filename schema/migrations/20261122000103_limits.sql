-- migrate:up

-- A scope's thresholds are few: each is compared whenever a state of the scope rings. By a
-- trigger, so that the API and SQL are bounded alike; the lock makes two that add at once wait.
create function public.quotabell_thresholds_bounded() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform pg_advisory_xact_lock(hashtextextended(
        'quotabell thresholds ' || length(new.provider) || new.provider || new.user_id, 0));
    if (select count(*) from public.token_thresholds
        where provider = new.provider and user_id = new.user_id and id <> new.id) >= 20
    then
        raise exception 'a scope has at most 20 thresholds'
            using errcode = 'check_violation', constraint = 'token_thresholds_of_scope';
    end if;
    return new;
end $$;

create trigger quotabell_thresholds_bounded before insert or update of provider, user_id
on public.token_thresholds
for each row execute function public.quotabell_thresholds_bounded();

-- A scope that waits to be compared anew is not queued a second time. Only one that nobody holds
-- counts: until this transaction has ended its work cannot begin, so it sees what was changed here.
create function public.quotabell_rearm_queued() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
    perform from public.rearm_scopes r
    where r.provider is not distinct from new.provider
        and r.user_id is not distinct from new.user_id and r.writers is null
    limit 1 for no key update skip locked;
    if found then
        return null;
    end if;
    return new;
end $$;

create index rearm_scopes_waiting on public.rearm_scopes (provider, user_id) where writers is null;
create trigger quotabell_rearm_queued before insert on public.rearm_scopes
for each row when (new.writers is null) execute function public.quotabell_rearm_queued();

-- Subscriptions that ended are deleted after a while, oldest first.
create index push_subscriptions_ended on public.push_subscriptions (updated_at)
    where not is_active;

select public.quotabell_protect(
    'quotabell_thresholds_bounded()', 'quotabell_rearm_queued()');

-- migrate:down

drop index public.push_subscriptions_ended;
drop trigger quotabell_rearm_queued on public.rearm_scopes;
drop index public.rearm_scopes_waiting;
drop trigger quotabell_thresholds_bounded on public.token_thresholds;
drop function public.quotabell_rearm_queued();
drop function public.quotabell_thresholds_bounded();
