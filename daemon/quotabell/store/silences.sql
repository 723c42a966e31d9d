-- Statements about silences.

-- listed: silences, newest first, of a given user where one is given; $2 what their time is
select id, user_id, matchers, starts_at, ends_at, author, reason, created_at, updated_at
from silences
where ($1::text is null or user_id = $1)
    and case $2::text
        when 'active' then starts_at <= now() and now() < ends_at
        when 'pending' then now() < starts_at
        when 'expired' then ends_at <= now()
        else true end
    and ($3::timestamptz is null or (created_at, id) < ($3, $4::uuid))
order by created_at desc, id desc
limit $5;

-- one: a silence, of a given user where one is given
select id, user_id, matchers, starts_at, ends_at, author, reason, created_at, updated_at
from silences
where id = $1 and ($2::text is null or user_id = $2);

-- lock: those of a user that have not ended are few; of two who add one at once the second waits
select pg_advisory_xact_lock(hashtextextended('quotabell silences ' || $1, 0));

-- add: a silence, unless the user has $12 already that have not ended
insert into silences (
    user_id, matchers, provider, model, alert_user, quota, kind, starts_at, ends_at, author, reason
)
select $1::text, $2::jsonb, $3::text, $4::text, $5::text, $6::text, $7::text,
    coalesce($8::timestamptz, now()), $9::timestamptz, $10::text, $11::text
where (select count(*) from silences where user_id = $1 and now() < ends_at) < $12::integer
returning id, user_id, matchers, starts_at, ends_at, author, reason, created_at, updated_at;

-- change: what is not null, of a given user's silence where one is given
update silences set
    matchers = coalesce($3::jsonb, matchers),
    provider = case when $3::jsonb is null then provider else $4 end,
    model = case when $3::jsonb is null then model else $5 end,
    alert_user = case when $3::jsonb is null then alert_user else $6 end,
    quota = case when $3::jsonb is null then quota else $7 end,
    kind = case when $3::jsonb is null then kind else $8 end,
    starts_at = coalesce($9, starts_at),
    ends_at = coalesce($10, ends_at),
    reason = coalesce($11, reason)
where id = $1 and ($2::text is null or user_id = $2)
returning id, user_id, matchers, starts_at, ends_at, author, reason, created_at, updated_at;

-- remove: a silence, of a given user where one is given
delete from silences
where id = $1 and ($2::text is null or user_id = $2)
returning id;

-- ring: announce anew what still fires and was silenced, where no silence holds any more
with over as materialized (
    select a.id from notification_history h
    join alerts a on a.id = h.alert_id and a.seq = h.seq and a.status = 'firing'
    where h.silence_id is not null and a.acknowledged_at is null
        and quotabell_silence(a.provider, a.model, a.user_id, a.quota, a.kind) is null
    limit $1
    for no key update of a skip locked
), raised as (
    update alerts a set seq = seq + 1, updated_at = now()
    from over where a.id = over.id
    returning a as alert
)
select quotabell_announce(alert) from raised;

-- age: delete silences that ended longer ago than this
delete from silences
where id in (select id from silences where ends_at < now() - $1::interval limit $2)
returning id;
