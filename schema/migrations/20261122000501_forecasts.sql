-- migrate:up

-- When the limit is reached at the burn of the last sample, if that is before the period ends:
-- where it is null nothing needs to be looked at. Rows where it stays so are updated in place.
alter table public.usage_burn add column exhausts_at timestamptz;
create index usage_burn_exhausting on public.usage_burn (state_id)
    where exhausts_at is not null;

-- Forecasts that are held before they fire, and those that fire (kind forecast of alerts).
create table public.forecasts (
    state_id uuid not null,
    since timestamptz not null,                   -- foretold from then on
    against timestamptz,                          -- fires, but from then on not foretold any more
    constraint forecasts_pkey primary key (state_id)
);
create index alerts_forecasts on public.alerts (state_id)
    where kind = 'forecast' and status = 'firing';

-- What was decided about the forecast of a quota state, as far as that is still right:
--   wait   it is foretold that the limit is reached: from now on
--   drop   it is not
--   fire   it was for long enough
--   note   it still is, and these are the facts now
--   keep   it is again
--   clear  it is not: from now on
--   end    it was not for long enough, or something else ended it
-- Whoever fires holds the state's row, as quotabell_ring() does.
create function public.quotabell_forecast(
    state uuid, action text, why text, silent boolean, facts jsonb
) returns void
language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
    s public.token_usage;
    a public.alerts;
begin
    if action = 'wait' then
        insert into public.forecasts values (state, now()) on conflict do nothing;
        return;
    elsif action = 'drop' then
        delete from public.forecasts where state_id = state;
        return;
    elsif action = 'keep' then
        insert into public.forecasts values (state, now())
        on conflict (state_id) do update set against = null;
        return;
    elsif action = 'clear' then
        insert into public.forecasts as f values (state, now(), now())
        on conflict (state_id) do update set against = coalesce(f.against, now());
        return;
    end if;
    select * into s from public.token_usage where id = state for no key update;
    if not found then
        return;
    end if;
    select * into a from public.alerts
    where state_id = state and kind = 'forecast' and status = 'firing' for no key update;
    if action = 'fire' then
        if a.id is not null or s.token_limit is null or s.tokens_used >= s.token_limit
            or s.period_end <= now()
            or exists (select from public.quotas where name = s.quota and phase = 'recount')
        then
            return;
        end if;
        insert into public.alerts (
            state_id, kind, user_id, quota, provider, model, level, tokens_used, token_limit, data
        ) values (
            -- As bad as what it reaches.
            s.id, 'forecast', s.user_id, s.quota, s.provider, s.model, 100, s.tokens_used,
            s.token_limit, facts
        ) returning * into a;
        perform public.quotabell_announce(a);
        insert into public.forecasts values (state, now())
        on conflict (state_id) do update set against = null;
    elsif action = 'note' then
        update public.alerts set tokens_used = s.tokens_used, data = facts where id = a.id;
    elsif action = 'end' then
        delete from public.forecasts where state_id = state;
        if a.id is null then
            return;
        end if;
        update public.alerts set status = 'resolved', reason = why, ended_at = now(),
            updated_at = now(), seq = seq + (not silent)::integer,
            tokens_used = s.tokens_used, token_limit = s.token_limit, data = facts
        where id = a.id returning * into a;
        if not silent then
            perform public.quotabell_announce(a);
            return;
        end if;
        -- What it foretold has come, and is told as such.
        update public.notification_history set status = 'suppressed',
            error = 'the limit was reached before this was told'
        where alert_id = a.id and status = 'pending' and enqueued_at is null;
    end if;
end $$;

-- Does it, or leaves everything as it was and says so: the next round decides anew.
create function public.quotabell_forecast_safely(
    state uuid, action text, why text, silent boolean, facts jsonb
) returns boolean
language plpgsql security definer
set search_path = pg_catalog, pg_temp
set lock_timeout = '200ms'
as $$
begin
    perform public.quotabell_forecast(state, action, why, silent, facts);
    return true;
exception when others then
    raise warning 'quotabell: a forecast failed, the evaluator will repeat it: % (%)',
        sqlerrm, sqlstate;
    return false;
end $$;

select public.quotabell_protect(
    'forecasts', 'quotabell_forecast(uuid,text,text,boolean,jsonb)',
    'quotabell_forecast_safely(uuid,text,text,boolean,jsonb)');

-- migrate:down

drop function public.quotabell_forecast_safely(uuid, text, text, boolean, jsonb);
drop function public.quotabell_forecast(uuid, text, text, boolean, jsonb);
drop index public.alerts_forecasts;
drop table public.forecasts;
alter table public.usage_burn drop column exhausts_at;
