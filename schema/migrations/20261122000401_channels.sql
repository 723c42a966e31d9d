-- migrate:up

-- Where alerts go besides browsers, as the configuration in force says. No URL and no secret: what
-- is needed to send there stays in the files of the daemons. The patterns are regular expressions;
-- NULL: anything. One that is none is refused here, since it would keep every message from being
-- sent.
create table public.channels (
    name text not null,
    type text not null,
    origin text not null,                         -- what shares one fate; no secret
    kind text constraint channels_kind check (kind is null or '' ~ kind is not null),
    provider text constraint channels_provider check (provider is null or '' ~ provider is not null),
    model text constraint channels_model check (model is null or '' ~ model is not null),
    alert_user text constraint channels_user check (alert_user is null or '' ~ alert_user is not null),
    quota text constraint channels_quota check (quota is null or '' ~ quota is not null),
    min_percentage float8 not null default 0,     -- of the level, or of what is used
    constraint channels_pkey primary key (name)
);

-- Where a message goes besides browsers. A test goes where it says; one that a user asked for to be
-- sent again goes nowhere. Alertmanager takes alerts only: what has none could never end there. The
-- end of an alert is not filtered by percentage: it goes where the alert went. Nor is what has none.
create function public.quotabell_channels(h public.notification_history)
returns table (channel text, target text, origin text)
language sql stable rows 3 set search_path = pg_catalog, pg_temp
as $$
    select c.type, c.name, c.origin
    from public.channels c
    where case
        when h.transition = 'test' then h.data -> 'channels' ?| array['*', c.name]
        when h.data @> '{"ownOnly": true}' or c.type = 'alertmanager' and h.alert_id is null
            then false
        else (c.kind is null or h.kind ~ c.kind)
            and (c.provider is null or coalesce(h.data ->> 'provider', '') ~ c.provider)
            and (c.model is null or coalesce(h.data ->> 'model', '') ~ c.model)
            and (c.alert_user is null or h.user_id ~ c.alert_user)
            and (c.quota is null or coalesce(h.data ->> 'quota', '') ~ c.quota)
            and (c.min_percentage <= 0 or h.transition = 'resolved' or h.level is null
                or h.level >= c.min_percentage
                or case when jsonb_typeof(h.data -> 'percentage') = 'number'
                    then (h.data ->> 'percentage')::float8 >= c.min_percentage end)
        end
$$;

-- The alerts that have the same name for Alertmanager, whatever their period. For no query that
-- does not know the user: while there are no alerts, the planner takes this index to be as good as
-- that of their states, and sessions keep the plan when there are many.
create index alerts_firing_of_name on public.alerts (user_id, quota, provider, model, kind, subject)
    where status = 'firing' and user_id is not null;
create index alerts_ended on public.alerts (ended_at, id) where status = 'resolved';

-- What became of a channel is its operator's matter: a user sees what went to browsers.
alter policy deliveries_own on public.deliveries using (
    channel = 'webpush' and
    exists (select from public.notification_history h
            where h.id = notification_id and h.user_id = (select public.quotabell_subject())));

select public.quotabell_protect(
    'channels', 'quotabell_channels(public.notification_history)');

-- migrate:down

alter policy deliveries_own on public.deliveries using (
    exists (select from public.notification_history h
            where h.id = notification_id and h.user_id = (select public.quotabell_subject())));
drop index public.alerts_ended;
drop index public.alerts_firing_of_name;
drop function public.quotabell_channels(public.notification_history);
drop table public.channels;
