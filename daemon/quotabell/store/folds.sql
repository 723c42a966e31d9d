-- Statements about users with series of their own (tables metric_folding and metric_users).

-- generation: how often users were folded
select generation from metric_folding;

-- named: who has series of their own
select user_id from metric_users;

-- next: decide anew, unless somebody has since the given generation; holds off the others
update metric_folding set generation = generation + 1 where generation = $1 returning generation;

-- came: since when these users are known
select user_id, min(created_at) as at
from (
    select user_id, created_at from token_totals where user_id = any ($1::text[])
    union all
    select user_id, created_at from token_usage where user_id = any ($1::text[])
) as seen
group by user_id;

-- name: these users have series of their own
insert into metric_users (user_id) select unnest($1::text[]) on conflict do nothing;

-- fold: these have none any more
delete from metric_users where user_id = any ($1::text[]);
