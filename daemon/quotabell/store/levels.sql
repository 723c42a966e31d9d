-- Statements about how bad the alerts are that fire (table alerts).

-- firing: every alert that fires, those of later episodes last
select user_id, quota, provider, model, kind, level
from alerts
where status = 'firing'
order by started_at;
