-- Statements about leases: who does what only one replica should do.

-- hold: take a lease that is free or run out, or renew one's own; no row if another holds it
insert into leases (name, holder, expires_at)
values ($1, $2, now() + $3::interval)
on conflict (name) do update
    set holder = excluded.holder, expires_at = excluded.expires_at, renewed_at = now()
    where leases.holder = excluded.holder or leases.expires_at < now()
returning holder;

-- release: give up a lease early
delete from leases where name = $1 and holder = $2;
