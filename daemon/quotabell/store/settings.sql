-- Statements about the mirror of the configuration that SQL functions read.

-- mirror: make this configuration the one in force, also where somebody changed it by hand
update settings
set config_hash = $1, default_thresholds = $2::float8[], hysteresis = $3, min_interval = $4,
    repeat_interval = $5, updated_at = now()
where (config_hash, default_thresholds, hysteresis, min_interval, repeat_interval)
    is distinct from ($1, $2::float8[], $3, $4, $5)
returning config_hash;

-- in_force: the hash of the configuration in force
select config_hash from settings;
