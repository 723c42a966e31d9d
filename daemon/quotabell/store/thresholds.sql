-- Statements about thresholds. A trigger has the scope of whatever changes compared anew.

-- listed: thresholds, newest first, optionally a user's own and the global ones, or a provider's
select id, provider, user_id, threshold_percentage, is_active, created_at, updated_at
from token_thresholds
where ($1::text is null or user_id in ($1, ''))
    and ($2::text is null or provider = $2)
    and ($3::timestamptz is null or (created_at, id) < ($3, $4::uuid))
order by created_at desc, id desc
limit $5;

-- one: a threshold by its id; a user's own and the global ones where a user is given
select id, provider, user_id, threshold_percentage, is_active, created_at, updated_at
from token_thresholds
where id = $1 and ($2::text is null or user_id in ($2, ''));

-- add: a threshold; no row if its scope has one at that percentage
insert into token_thresholds (provider, user_id, threshold_percentage, is_active)
values ($1, $2, $3, $4)
on conflict (provider, user_id, threshold_percentage) do nothing
returning id, provider, user_id, threshold_percentage, is_active, created_at, updated_at;

-- change: a threshold's percentage or activity, of a given user where one is given
update token_thresholds set
    threshold_percentage = coalesce($3, threshold_percentage),
    is_active = coalesce($4, is_active)
where id = $1 and ($2::text is null or user_id = $2)
returning id, provider, user_id, threshold_percentage, is_active, created_at, updated_at;

-- remove: a threshold, of a given user where one is given
delete from token_thresholds
where id = $1 and ($2::text is null or user_id = $2)
returning id;
