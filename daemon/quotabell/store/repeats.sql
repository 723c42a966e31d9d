-- Statements about alerts that are told again because they last.

-- repeat: count up the next alerts whose last message is older than the interval. What is silenced
-- or acknowledged is not told again, nor what its period has outlived and only its end is to be told
-- of; nor, for now, what somebody holds. Told are the usage of now and the id, for the message to be
-- marked.
with due as materialized (
    select a.id from alerts a
    where a.status = 'firing' and a.acknowledged_at is null
        and (a.kind = 'forecast' or a.kind = 'threshold' and a.level >= 100)
        and a.told_at <= now() - (
            select nullif(repeat_interval, '0') from settings limit 1)
        and quotabell_silence(a.provider, a.model, a.user_id, a.quota, a.kind) is null
        and not exists (
            select from token_usage u where u.id = a.state_id and u.period_end <= now())
    order by a.told_at, a.id
    limit $1
    for no key update of a skip locked
), raised as (
    update alerts a set seq = a.seq + 1, updated_at = now(),
        tokens_used = case when u.token_limit > 0 then u.tokens_used else a.tokens_used end,
        token_limit = case when u.token_limit > 0 then u.token_limit else a.token_limit end
    from due left join token_usage u on u.id = (select state_id from alerts where id = due.id)
    where a.id = due.id
    returning a as alert
)
select (alert).id, (alert).seq, quotabell_announce(alert) from raised;

-- mark: say in the history that these messages repeat others
update notification_history set data = data || '{"repeat": true}'
where (alert_id, seq) in (select * from unnest($1::uuid[], $2::integer[]));
