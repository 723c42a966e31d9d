-- Statements about closed quota states (table usage_periods).

-- archive: move states of periods before the last one, and closed ones of quotas that are gone;
-- how many. What is older than $2 is dropped. One that was moved before and got a late event since
-- is added up. An alert that has yet to end keeps its state.
with old as materialized (
    select t.id from token_usage t
    where t.period_end <= now() and t.quota not like 'reported%'
        and case when exists (select from quotas q where q.name = t.quota)
            then exists (
                select from quota_periods p
                where p.quota = t.quota and p.period_start <= now() and now() < p.period_end
                    and t.period_end < p.period_start)
            else true end
        and not exists (
            select from alerts a where a.state_id = t.id and a.status = 'firing')
    limit $1
    for update skip locked
), gone as (
    delete from token_usage t using old where t.id = old.id returning t.*
), kept as (
    insert into usage_periods as k (
        id, user_id, quota, provider, model, period_start, period_end, unit, tokens_used,
        token_limit, reported_at)
    select id, user_id, quota, provider, model, period_start, period_end, unit, tokens_used,
        token_limit, reported_at
    from gone where period_start >= $2
    on conflict (user_id, quota, provider, model, period_start) do update set
        tokens_used = least(
            9223372036854775807, k.tokens_used::numeric + excluded.tokens_used)::bigint,
        token_limit = excluded.token_limit,
        reported_at = excluded.reported_at
)
select count(*) from gone;
