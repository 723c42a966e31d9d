-- Statements about how bad the alerts are that fire (table alerts).

-- firing: every alert of a quota that fires, of two of one name the later episode
select distinct on (user_id, quota, provider, model, kind)
    user_id, quota, provider, model, kind, level
from alerts
where status = 'firing' and kind in ('threshold', 'forecast')
order by user_id, quota, provider, model, kind, started_at desc;
