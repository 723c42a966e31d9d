-- Statements that read and acknowledge alerts (table alerts) for people.

-- listed: alerts, newest first; $1 whose, else everybody's
select id, state_id, kind, status, user_id, quota, provider, model, level, seq, tokens_used,
    token_limit, reason, acknowledged_at, acknowledged_by, started_at, ended_at, subject,
    (data ->> 'exhaustsAt')::timestamptz as exhausts_at
from alerts
where ($1::text is null or user_id = $1)
    and ($2::text is null or provider ~ $2)
    and ($3::text is null or model ~ $3)
    and ($4::text is null or user_id ~ $4)
    and ($5::text is null or quota ~ $5)
    and ($6::text is null or kind ~ $6)
    and ($7::text = 'all' or status = $7)
    and ($8::timestamptz is null or (started_at, id) < ($8, $9::uuid))
order by started_at desc, id desc
limit $10;

-- acknowledge: note who has seen a firing alert first, of a given user where one is given; the
-- alert as it then is
with target as (
    select * from alerts
    where id = $1 and ($2::text is null or user_id = $2)
    for no key update
), acknowledged as (
    update alerts a set acknowledged_at = now(), acknowledged_by = $3, updated_at = now()
    from target t
    where a.id = t.id and t.status = 'firing' and t.acknowledged_at is null
    returning a.*
)
select id, state_id, kind, status, user_id, quota, provider, model, level, seq, tokens_used,
    token_limit, reason, acknowledged_at, acknowledged_by, started_at, ended_at, subject,
    (data ->> 'exhaustsAt')::timestamptz as exhausts_at
from (
    select * from acknowledged
    union all
    select * from target where not exists (select from acknowledged)
) as alert;
