-- Statements that check quota states against the events they are counted from.

-- now: the moment of this transaction
select now();

-- events: every event of or after a moment
select time, provider, model, user_id, input, cache_read, cache_write, output, reasoning, other
from usage_events where time >= $1 and day >= ($1 at time zone 'UTC')::date - 1;

-- states: the open states of quotas
select user_id, quota, provider, model, period_start, tokens_used
from token_usage where period_end > now() and quota not like 'reported%';
