-- Statements about users with series of their own (tables metric_folding and metric_users).

-- generation: how often users were folded
select generation from metric_folding;

-- named: who has series of their own
select user_id from metric_users;

-- next: decide anew, unless somebody has since the given generation; holds off the others
update metric_folding set generation = generation + 1 where generation = $1 returning generation;

-- first: of these users with so many series each, who came first and fit together
with came as (
    select user_id, min(created_at) as at
    from (
        select user_id, created_at from token_totals
        union all
        select user_id, created_at from token_usage
    ) as seen
    where user_id <> ''
    group by user_id
), placed as (
    select u.user_id, sum(u.series) over (
        order by c.at nulls last, u.user_id collate "C" rows unbounded preceding) as so_far
    from unnest($1::text[], $2::integer[]) as u (user_id, series)
    left join came c using (user_id)
)
select user_id from placed where so_far <= $3;

-- name: these users have series of their own
insert into metric_users (user_id) select unnest($1::text[]) on conflict do nothing;

-- fold: these have none any more
delete from metric_users where user_id = any ($1::text[]);
