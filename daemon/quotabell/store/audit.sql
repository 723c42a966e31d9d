-- Statements that check quota states against the events they are counted from.

-- now: the moment of this transaction
select now();

-- events: every event of or after a moment
select time, provider, model, user_id, input, cache_read, cache_write, output, reasoning, other
from usage_events where time >= $1 and day >= ($1 at time zone 'UTC')::date - 1;

-- states: the open states of quotas, without those that are yet to be deleted or counted
select t.user_id, t.quota, t.provider, t.model, t.period_start, t.tokens_used
from token_usage t left join quotas q on q.name = t.quota
where t.period_end > now() and t.quota not like 'reported%'
    and (q.name is null or q.phase = 'ready' or q.phase = 'settle' and t.generation = q.generation);
