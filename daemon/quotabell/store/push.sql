-- Statements about push subscriptions and VAPID keys.

-- subscribe: store a subscription; the same endpoint with the same auth secret may change its
-- user (a shared browser), another secret is somebody else's: no row. A key id once known stays,
-- for it tells with which key the subscription was made.
insert into push_subscriptions as s (user_id, subscription, is_active, reason, vapid_key_id)
values ($1, $2::jsonb, $3, $4, $5)
on conflict (endpoint_hash) do update set
    user_id = excluded.user_id,
    subscription = excluded.subscription,
    is_active = excluded.is_active,
    reason = excluded.reason,
    vapid_key_id = coalesce($6, s.vapid_key_id, excluded.vapid_key_id)
where s.subscription #>> '{keys,auth}' is null
    or rtrim(s.subscription #>> '{keys,auth}', '=') = excluded.subscription #>> '{keys,auth}'
returning id, user_id, is_active, reason;

-- alone: subscribe one browser of a user after the other
select pg_advisory_xact_lock(hashtextextended('quotabell subscriptions ' || $1::text, 0));

-- surplus: of a user's active subscriptions beside the new one ($2) those end that were of use
-- longest ago, as far as they are more than $3
update push_subscriptions s set is_active = false, reason = $4
from (
    select id from push_subscriptions
    where user_id = $1 and is_active and id <> $2
    order by coalesce(last_success_at, created_at) desc, id
    offset $3
) old
where s.id = old.id and s.is_active;

-- unsubscribe: end a subscription by its endpoint, for its user or whoever knows its auth secret
update push_subscriptions s set is_active = false, reason = 'unsubscribed'
where endpoint_hash = encode(sha256(convert_to($1, 'UTF8')), 'hex')
    and ($2 or user_id = $3 or rtrim(subscription #>> '{keys,auth}', '=') = $4)
returning id;

-- listed: subscriptions, newest first, of one user or of all; operators' only if $2
select id, user_id, is_active, reason, vapid_key_id, last_success_at, created_at, updated_at,
    substring(subscription ->> 'endpoint' from '^(https?://[^/?#@\\]+)(?:[/?#]|$)') as origin
from push_subscriptions
where ($1::text is null or user_id = $1)
    and ($2 or user_id <> '')
    and ($3::timestamptz is null or (created_at, id) < ($3, $4::uuid))
order by created_at desc, id desc
limit $5;

-- lock_keys: one daemon after the other decides which keys are in force
lock table vapid_keys in share row exclusive mode;

-- missing_keys: the key that new browsers are given, and those of active subscriptions, as far as
-- they are not among the given ones
select id from (
    select id from vapid_keys where is_active order by created_at desc, id limit 1
) newest
where id <> all ($1::text[])
union
select vapid_key_id from push_subscriptions
where is_active and vapid_key_id is not null and vapid_key_id <> all ($1::text[]);

-- adopt_keys: these are in force: the first, and the others while somebody is subscribed with them
with left_away as (
    update vapid_keys set is_active = false where is_active and id <> all ($1::text[])
)
insert into vapid_keys (id, public_key, is_active)
select k.id, k.public_key, k.n = 1 or exists (
    select from push_subscriptions s where s.is_active and s.vapid_key_id = k.id)
from unnest($1::text[], $2::text[]) with ordinality as k (id, public_key, n)
on conflict (id) do update set is_active = excluded.is_active;
