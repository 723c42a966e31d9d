-- Statements about how bad the alerts are that fire (table alerts).

-- firing: every alert of a quota that fires, those of later episodes last
select user_id, quota, provider, model, kind, level
from alerts
where status = 'firing' and kind in ('threshold', 'forecast')
order by started_at;
