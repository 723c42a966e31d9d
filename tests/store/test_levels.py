"""How bad the alerts are that fire, as ``/metrics`` shows them."""

from __future__ import annotations

from quotabell import log
from quotabell.store.database import Database
from quotabell.store.levels import AlertLevelStore, Firing
from tests.support.postgres import connected

ALERT = """
insert into alerts (state_id, kind, subject, status, user_id, quota, provider, model, level,
    tokens_used, started_at)
values (gen_random_uuid(), $1, $2, $3, 'alice', 'daily', 'openai', 'gpt-5', $4, 0,
    now() - make_interval(hours => $5))
"""


async def test_firing_alerts_have_one_level_a_name_that_of_the_later_episode(
    any_dsn: str,
) -> None:
    async with connected(any_dsn) as connection:
        for kind, subject, status, level, hours in (
            ("threshold", "", "firing", 75.0, 1),
            ("threshold", "", "firing", 100.0, 25),  # of a period that is over
            ("forecast", "", "firing", 90.0, 2),
            ("threshold", "", "resolved", 90.0, 3),
            ("stale", "apps", "firing", 0.0, 4),
            ("channel", "ops", "firing", 0.0, 5),
        ):
            await connection.execute(ALERT, kind, subject, status, level, hours)
    logger = log.configure("error").get_logger()
    database = Database(any_dsn, pool_size=2, prepared_statements=True, log=logger)
    await database.open()
    try:
        found = [alert async for some in AlertLevelStore(database).firing() for alert in some]
    finally:
        await database.close()

    name = ("alice", "daily", "openai", "gpt-5")
    assert sorted(found) == [
        Firing(*name, "forecast", 90.0),
        Firing(*name, "threshold", 75.0),
    ]
