-- migrate:up

-- A user sees the own rows and writes the own subscriptions and thresholds; thresholds for
-- everybody can be read. Usage and history are written by the daemon. settings and leases have
-- no policy: they are the owner's alone.
create policy quotabell_own on public.token_usage for select
    using (user_id = (select public.quotabell_subject()));
create policy quotabell_own on public.notification_history for select
    using (user_id = (select public.quotabell_subject()));
create policy quotabell_own on public.token_thresholds
    using (user_id = (select public.quotabell_subject()))
    with check (user_id = (select public.quotabell_subject()));
create policy quotabell_shared on public.token_thresholds for select
    using (user_id = '' and (select public.quotabell_subject()) is not null);
create policy quotabell_own on public.push_subscriptions
    using (user_id = (select public.quotabell_subject()))
    with check (user_id = (select public.quotabell_subject()));

-- Names and times of quotas are nobody's secret.
create policy quotabell_shared on public.quota_periods for select
    using ((select public.quotabell_subject()) is not null);

grant select on public.quota_periods, public.token_usage, public.notification_history to quotabell_reader;
grant select, insert, update, delete on public.token_thresholds to quotabell_reader;
-- What delivery notes about a subscription is not its owner's to write.
grant select, delete, insert (id, user_id, subscription, is_active),
    update (subscription, is_active) on public.push_subscriptions to quotabell_reader;

-- Views run with the rights of whoever reads them, so the policies hold there too. Who used
-- something in the last period of a quota and nothing yet in this one has used 0, unless the quota
-- counted otherwise then (a late event that counts as now has generation 0).
create view public.current_usage with (security_invoker = true) as
select id, user_id, quota, provider, model, unit, tokens_used, token_limit, percentage,
    greatest(token_limit - tokens_used, 0) as tokens_remaining,
    period_start, period_end, reported_at, updated_at
from public.token_usage
where period_start <= now() and (period_end is null or now() < period_end)
union all
select t.id, t.user_id, t.quota, t.provider, t.model, t.unit, 0, t.token_limit,
    case when t.token_limit > 0 then 0.0::float8 end, t.token_limit,
    p.period_start, p.period_end, t.reported_at, t.updated_at
from public.quota_periods p
join public.token_usage t on t.quota = p.quota and t.period_end = p.period_start
where p.period_start <= now() and now() < p.period_end
    and (p.continues or t.generation = 0)
    and not exists (
        select from public.token_usage c
        where c.user_id = t.user_id and c.quota = t.quota and c.provider = t.provider
            and c.model = t.model and c.period_start = p.period_start);

-- Several quotas may count the same tokens: the largest count of a user and model is the one
-- that is added up. Counters that several models share are left out.
create view public.usage_by_provider with (security_invoker = true) as
select provider,
    count(distinct model) as models,
    count(distinct user_id) filter (where user_id <> '') as users,
    sum(tokens_used)::bigint as tokens_used,
    max(percentage) as highest_percentage,
    max(reported_at) as reported_at
from (
    select provider, model, user_id,
        max(tokens_used) filter (where unit = 'tokens') as tokens_used,
        max(percentage) as percentage,
        max(reported_at) as reported_at
    from public.current_usage
    where '*' not in (provider, model)
    group by provider, model, user_id
) as counted
group by provider;

create view public.notification_log with (security_invoker = true) as
select created_at, user_id, kind, transition, level, title, body, status, error, sent_at,
    id, alert_id, seq, data
from public.notification_history
order by created_at desc, id;

grant select on public.current_usage, public.usage_by_provider, public.notification_log
    to quotabell_reader;

select public.quotabell_protect(
    'quota_periods', 'token_usage', 'token_thresholds', 'push_subscriptions', 'notification_history',
    'current_usage', 'usage_by_provider', 'notification_log');

-- migrate:down

drop view public.notification_log, public.usage_by_provider, public.current_usage;
drop policy quotabell_own on public.token_usage;
drop policy quotabell_own on public.notification_history;
drop policy quotabell_own on public.token_thresholds;
drop policy quotabell_shared on public.token_thresholds;
drop policy quotabell_own on public.push_subscriptions;
drop policy quotabell_shared on public.quota_periods;
revoke all on public.quota_periods, public.token_usage, public.notification_history, public.token_thresholds,
    public.push_subscriptions from quotabell_reader;
