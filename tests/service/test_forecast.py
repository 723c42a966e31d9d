"""Forecasts as alerts: held, told once, ended for a reason, whatever goes wrong meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from uuid import UUID

import pytest
import pytest_asyncio

from quotabell import log
from quotabell.config.model import Forecast
from quotabell.metrics import Metrics
from quotabell.service import forecast
from quotabell.service.evaluate import Evaluator
from quotabell.service.forecast import Forecaster
from quotabell.service.ring import Ringer
from quotabell.store.alerts import AlertStore
from quotabell.store.database import Database
from quotabell.store.forecasts import ForecastStore
from quotabell.store.leases import LeaseStore
from quotabell.store.periods import PeriodStore
from quotabell.store.samples import FIRST, SampleStore
from tests.support.bell import Bell, bell
from tests.support.databases import fresh
from tests.support.forecasts import MINUTE, burning, elapse, idle, sample
from tests.support.postgres import TEMPLATE, Cluster
from tests.support.postgres import Database as Postgres

LOG = log.configure("error", "logfmt").get_logger()
HOLD = timedelta(minutes=2)
AT_ONCE = Forecast(hold=timedelta(0))
FIRING = "select count(*) from notification_history where transition = 'firing'"
LEVELS = "select array_agg(kind || ' ' || level order by kind) from alerts where status = 'firing'"


@pytest.fixture(scope="module")
def shared(any_postgres: Cluster) -> Iterator[Postgres]:
    """One for all tests here, which takes a fifth of the time."""
    yield from fresh(any_postgres, TEMPLATE)


@pytest_asyncio.fixture
async def it(shared: Postgres) -> AsyncIterator[Bell]:
    async with bell(shared.admin_dsn) as ready:
        await ready.execute(
            "truncate token_usage, usage_samples, usage_burn, alerts, forecasts,"
            " notification_history, quotas, leases, usage_periods cascade"
        )
        await ready.settings([75, 90, 100])
        await ready.rearm()
        yield ready


@pytest_asyncio.fixture
async def pool(shared: Postgres, it: Bell) -> AsyncIterator[Database]:
    database = Database(shared.dsn, pool_size=4, prepared_statements=True, log=LOG)
    await database.open()
    try:
        today = database.clock.now().date()
        for parts in (SampleStore(database).months, PeriodStore(database).months):
            await parts.keep(today - timedelta(days=40), today + timedelta(days=1))
        yield database
    finally:
        await database.close()


def forecaster(pool: Database, section: Forecast = AT_ONCE) -> Forecaster:
    return Forecaster(ForecastStore(pool), section, LOG)


async def foretell(pool: Database, section: Forecast = AT_ONCE) -> None:
    await forecaster(pool, section).foretell()


def replica(pool: Database, name: str = "one", section: Forecast = AT_ONCE) -> Evaluator:
    """One whose rounds ring and foretell."""
    ringer = Ringer(AlertStore(pool), Metrics(), LOG)
    return Evaluator(
        LeaseStore(pool),
        Metrics(),
        LOG,
        instance=name,
        every=5.0,
        steps=[
            *(ringer.rearm, ringer.ring_due, ringer.make_good),
            forecaster(pool, section).foretell,
        ],
    )


# --- firing --------------------------------------------------------------------------------


async def test_a_limit_that_will_be_reached_is_told_with_its_facts(
    pool: Database, it: Bell
) -> None:
    state = await burning(it, user="alice")

    await foretell(pool)
    await foretell(pool)

    [row] = await it.connection.fetch("select * from notification_history")
    assert (row["kind"], row["transition"], row["level"]) == ("forecast", "firing", 100)
    assert (row["user_id"], row["seq"], row["status"]) == ("alice", 1, "pending")
    assert row["title"] == "openai / gpt-5 runs out in about 6 min"
    assert row["body"] == "60 of 100 tokens by alice, resets in 59 min"
    data = json.loads(row["data"])
    at = await it.value("select sampled_at from usage_burn")
    assert abs(datetime.fromisoformat(data["exhaustsAt"]) - at - 400 * MINUTE / 60) < MINUTE
    assert data["burn"] == 0.1
    assert data["stateId"] == str(state)
    assert (data["tokensUsed"], data["tokenLimit"], data["percentage"]) == (60, 100, 60.0)
    assert datetime.fromisoformat(data["periodEnd"]) > at


async def test_it_is_held_before_it_is_told_whoever_evaluates(pool: Database, it: Bell) -> None:
    section = Forecast(hold=HOLD)
    await burning(it)

    await foretell(pool, section)
    await elapse(it, HOLD - MINUTE)
    await foretell(pool, section)
    assert await it.value(FIRING) == 0
    assert await it.value("select count(*) from forecasts") == 1
    await elapse(it, MINUTE)
    await foretell(pool, section)

    assert await it.value(FIRING) == 1


async def test_what_is_no_longer_foretold_is_held_anew(pool: Database, it: Bell) -> None:
    section = Forecast(hold=HOLD)
    state = await burning(it)
    await foretell(pool, section)
    await it.report(60, 1_000_000, period_end=await it.value("select period_end from token_usage"))
    await foretell(pool, section)

    assert await it.value("select count(*) from forecasts") == 0
    assert await it.level(state) is None


@pytest.mark.parametrize(
    ("section", "ends"),
    [
        pytest.param(AT_ONCE, 6, id="the period ends before"),
        pytest.param(Forecast(hold=timedelta(0), min_elapsed=0.99), 60, id="too early"),
    ],
)
async def test_nothing_is_told(pool: Database, it: Bell, section: Forecast, ends: float) -> None:
    await burning(it, ends=ends)
    await it.execute("update token_usage set period_start = period_end - interval '1 day'")

    await foretell(pool, section)

    assert await it.value("select count(*) from alerts") == 0
    assert await it.value("select count(*) from forecasts") == 0


async def test_a_state_without_an_end_is_foretold_within_the_horizon_only(
    pool: Database, it: Bell
) -> None:
    state = await burning(it)
    await it.execute("update token_usage set period_end = null")
    await elapse(it, MINUTE)
    await sample(it)

    await foretell(pool, AT_ONCE)
    await foretell(pool, Forecast(hold=timedelta(0), horizon=5 * MINUTE))
    assert await it.level(state) is None
    await foretell(pool, Forecast(hold=timedelta(0), horizon=60 * MINUTE))

    assert await it.level(state) == 100
    await foretell(pool, AT_ONCE)
    assert await it.transitions(state) == ["100", "no forecast"]


async def test_a_day_tells_hours_ahead(pool: Database, it: Bell) -> None:
    # 8,640 tokens in 24 hours, of late faster, so that 3,600 more last for ten hours, or two.
    state = await burning(it, limit=12_240, ends=2 * 24 * 60)
    await it.execute(
        "update token_usage set tokens_used = 8640, period_start = now() - interval '3 days'"
    )
    await it.execute(
        "update usage_samples set used = 8340 where time < now() - interval '9 minutes'"
    )
    await it.execute(
        "insert into usage_samples (state_id, time, used)"
        " values ($1, now() - interval '25 hours', 0)",
        state,
    )
    await elapse(it, timedelta(0))
    await sample(it)
    assert await it.value("select burn from usage_burn") == 0.5

    await foretell(pool)

    assert await it.level(state) == 100
    told = await it.value("select (data ->> 'exhaustsAt')::timestamptz - now() from alerts")
    assert abs(told - timedelta(hours=10)) < MINUTE


PAST = """
insert into {table} (
    user_id, quota, provider, model, period_start, period_end, tokens_used, token_limit,
    reported_at)
select user_id, quota, provider, model, period_start - $1 * interval '1 day',
    period_end - $1 * interval '1 day', $2::bigint, 100, now()
from token_usage where period_end > now()
returning id
"""
THEN = """
insert into usage_samples (state_id, time, used)
select $1, now() - $2 * interval '1 day' + n * interval '1 minute', 50 + n
from generate_series(-5, 5) n
"""


@pytest.mark.parametrize("gap", [0, 1])
async def test_the_days_before_tell_hours_ahead_unless_one_is_missing(
    pool: Database, it: Bell, gap: int
) -> None:
    # At the present burn, 40 tokens last for 70 minutes.
    state = await burning(it, ends=12 * 60)
    await it.execute(
        "update token_usage set tokens_used = 60, period_start = period_end - interval '1 day'"
    )
    await it.execute("update usage_samples set used = 54 where time < now() - interval '9 minutes'")
    await sample(it)
    await foretell(pool)
    assert await it.level(state) is None
    for day in (1, 2, 3 + gap):
        # 50 tokens until now, and 60 more: the last closed period is where the open one is.
        table = "token_usage" if day == 1 else "usage_periods"
        then = await it.value(PAST.format(table=table), day, 110)
        await it.execute(THEN, then, day)

    await foretell(pool)

    assert await it.level(state) == (None if gap else 100)
    if not gap:
        told = await it.value("select (data ->> 'exhaustsAt')::timestamptz - now() from alerts")
        assert timedelta(hours=7) < told < timedelta(hours=9)


async def test_while_its_quota_is_counted_anew_nothing_is_told(pool: Database, it: Bell) -> None:
    state = await burning(it)
    await it.execute(
        "insert into quotas (name, definition, fingerprint, notify, generation,"
        " counted_from, defined_from, phase)"
        " values ('reported', '{}', '', '{}', 1, now(), now(), 'recount')"
    )
    await foretell(pool)
    assert await it.level(state) is None
    await it.execute("update quotas set phase = 'ready'")
    await foretell(pool)
    assert await it.level(state) == 100


# --- ending --------------------------------------------------------------------------------


async def test_a_slower_burn_ends_it_after_five_times_the_hold(pool: Database, it: Bell) -> None:
    section = Forecast(hold=timedelta(seconds=30))
    state = await burning(it, ends=600)
    await foretell(pool, section)
    await elapse(it, MINUTE)
    await foretell(pool, section)
    assert await it.transitions(state) == ["100"]

    await idle(it)
    await foretell(pool, section)
    await elapse(it, 2 * MINUTE)
    await foretell(pool, section)
    assert await it.transitions(state) == ["100"]
    await elapse(it, MINUTE)
    await foretell(pool, section)

    assert await it.transitions(state) == ["100", "slower burn"]
    assert await it.value("select count(*) from forecasts") == 0
    title = await it.value("select title from notification_history where transition = 'resolved'")
    assert title == "openai / gpt-5 does not run out early: slower burn"


async def test_a_burn_that_comes_back_keeps_it(pool: Database, it: Bell) -> None:
    section = Forecast(hold=timedelta(seconds=30))
    state = await burning(it, ends=600)
    for _ in range(2):
        await foretell(pool, section)
        await elapse(it, MINUTE)
    await idle(it)
    await foretell(pool, section)
    assert await it.value("select against is not null from forecasts")
    await it.execute("update usage_burn set burn = 0.1, sampled_at = now()")
    await foretell(pool, section)
    assert await it.value("select against is null from forecasts")
    await elapse(it, 3 * MINUTE)
    await foretell(pool, section)

    assert await it.transitions(state) == ["100"]


async def test_what_is_not_known_ends_nothing(pool: Database, it: Bell) -> None:
    state = await burning(it, ends=600)
    await foretell(pool)
    await it.execute("update usage_burn set burn = null, exhausts_at = null")
    for _ in range(3):
        await elapse(it, MINUTE)
        await foretell(pool)

    assert await it.transitions(state) == ["100"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("update token_usage set token_limit = 100000", "limit raised"),
        ("update token_usage set token_limit = null", "limit unknown"),
        ("update token_usage set period_end = now()", "period over"),
        ("delete from token_usage", "usage removed"),
    ],
)
async def test_it_ends_at_once_for_other_reasons(
    pool: Database, it: Bell, change: str, reason: str
) -> None:
    state = await burning(it)
    one = replica(pool, section=Forecast(hold=timedelta(0)))
    await one.round()
    await it.execute(change)
    for _ in range(2):
        await one.round()

    assert await it.transitions(state) == ["100", reason]
    assert await it.value("select count(*) from forecasts") == 0


async def test_a_threshold_of_100_ends_it_without_a_word(pool: Database, it: Bell) -> None:
    state = await burning(it)
    await foretell(pool)
    end = await it.value("select period_end from token_usage")
    await it.report(100, 100, period_end=end)

    await replica(pool).round()
    await replica(pool).round()

    assert await it.value(LEVELS) == ["threshold 100"]
    assert await it.value("select reason from alerts where kind = 'forecast'") == "exhausted"
    # What had not been told yet is not told after it has come.
    rows = await it.connection.fetch(
        "select kind, transition, status from notification_history order by kind"
    )
    assert [tuple(row) for row in rows] == [
        ("forecast", "firing", "suppressed"),
        ("threshold", "firing", "pending"),
    ]
    assert await it.value("select count(*) from forecasts") == 0
    assert await it.level(state) == 100


async def test_where_no_threshold_tells_of_it_the_end_is_told(pool: Database, it: Bell) -> None:
    await it.settings([])
    state = await burning(it)
    await foretell(pool)
    end = await it.value("select period_end from token_usage")
    await it.report(100, 100, period_end=end)
    await replica(pool).round()

    assert await it.transitions(state) == ["100", "exhausted"]
    title = await it.value("select title from notification_history where transition = 'resolved'")
    assert title == "openai / gpt-5 has run out"


async def test_thresholds_below_100_stand_beside_it(pool: Database, it: Bell) -> None:
    await it.settings([50, 100])
    await burning(it)
    await foretell(pool)

    assert await it.value(LEVELS) == ["forecast 100", "threshold 50"]


async def test_what_it_says_is_kept_true_without_a_message(pool: Database, it: Bell) -> None:
    await burning(it)
    await foretell(pool)
    end = await it.value("select period_end from token_usage")
    await it.report(90, 100, period_end=end)
    await foretell(pool)

    [row] = await it.connection.fetch("select * from alerts where kind = 'forecast'")
    left = datetime.fromisoformat(json.loads(row["data"])["exhaustsAt"]) - row["started_at"]
    assert abs(left - 100 * MINUTE / 60) < MINUTE / 4
    assert (row["tokens_used"], row["seq"]) == (90, 1)
    assert await it.value("select count(*) from notification_history where kind = 'forecast'") == 1


# --- whatever goes wrong -------------------------------------------------------------------

NOTHING = "select 1"
FAULTS = {
    "nothing goes wrong": (NOTHING, NOTHING),
    "the alert is deleted": (NOTHING, "delete from alerts"),
    "the message is deleted": (NOTHING, "delete from notification_history"),
    "the alert and its message are deleted": (
        NOTHING,
        "truncate alerts, notification_history cascade",
    ),
    "what is held is deleted": (NOTHING, "delete from forecasts"),
    "it cannot be written": (
        "alter table forecasts rename to gone",
        "alter table gone rename to forecasts",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_within_two_rounds_it_is_told_exactly_once(
    pool: Database, it: Bell, fault: str
) -> None:
    before, after = FAULTS[fault]
    state = await burning(it)
    await it.execute(before)
    with contextlib.suppress(Exception):
        await foretell(pool)
    await it.execute(after)

    one, two = replica(pool, "one"), replica(pool, "two")
    announced = FIRING + " and exists (select from alerts a where a.id = alert_id)"
    for evaluator in (one, two, one, two):
        await evaluator.round()
    assert await it.level(state) == 100
    assert await it.value(announced) == 1
    for _ in range(2):
        await one.round()
    assert await it.value(announced) == 1
    assert await it.value("select count(*) from alerts") == 1


async def test_one_that_fails_does_not_stop_the_others(pool: Database, it: Bell) -> None:
    states = [await burning(it, model=model) for model in ("a", "bad", "z")]
    await it.execute(
        "create function refuse() returns trigger language plpgsql as"
        " $$ begin raise exception 'on purpose'; end $$;"
        "create trigger refuse before insert on alerts"
        " for each row when (new.model = 'bad') execute function refuse()"
    )

    await foretell(pool)
    assert [await it.level(state) for state in states] == [100, None, 100]
    await it.execute("drop trigger refuse on alerts; drop function refuse()")
    await foretell(pool)

    assert [await it.level(state) for state in states] == [100, 100, 100]
    assert await it.value(FIRING) == 3


async def test_a_state_that_somebody_holds_waits_alone(
    pool: Database, it: Bell, shared: Postgres
) -> None:
    held, free = await burning(it, model="held"), await burning(it, model="free")
    async with bell(shared.dsn) as writer, writer.connection.transaction():
        await writer.execute("select from token_usage where id = $1 for update", held)
        await foretell(pool)
        assert [await it.level(state) for state in (held, free)] == [None, 100]

    await foretell(pool)
    assert await it.level(held) == 100


async def test_replicas_that_both_believe_to_lead_tell_it_once(pool: Database, it: Bell) -> None:
    for n in range(20):
        await burning(it, model=f"m{n}")

    await asyncio.gather(*(foretell(pool) for _ in range(4)))
    await foretell(pool)

    assert await it.value(FIRING) == 20
    assert await it.value("select count(*) from alerts") == 20


async def test_what_a_removed_state_held_is_forgotten(pool: Database, it: Bell) -> None:
    await burning(it)
    await foretell(pool, Forecast(hold=HOLD))
    await it.execute("delete from token_usage")

    await foretell(pool, Forecast(hold=HOLD))

    assert await it.value("select count(*) from forecasts") == 0


# --- of many -------------------------------------------------------------------------------


async def test_only_states_that_may_run_out_are_looked_at(pool: Database, it: Bell) -> None:
    await it.execute(
        "insert into token_usage (provider, model, tokens_used, token_limit, alert_at, period_end)"
        " select 'p', 'm' || n, 1, 100, 75, now() + interval '1 hour'"
        " from generate_series(1, 5000) n"
    )
    # These burn, and will not run out.
    await it.execute(
        "insert into usage_samples (state_id, time, used)"
        " select id, now() - interval '10 minutes', 0 from token_usage"
    )
    state = await burning(it)

    part = await ForecastStore(pool).due(
        FIRST, 1000, ahead=timedelta(minutes=30), horizon=timedelta(0)
    )

    assert await it.value("select count(*) from usage_burn where burn > 0") == 5001
    assert part.looked_at == 1
    assert [candidate.id for candidate in part.candidates] == [state]


async def test_all_are_reached_in_parts(
    pool: Database, it: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "BATCH", 3)
    states = [await burning(it, model=f"m{n}") for n in range(10)]

    await foretell(pool)

    assert [await it.level(state) for state in states] == [100] * 10


async def test_a_round_goes_on_where_the_last_one_had_no_time_left(
    pool: Database, it: Bell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "BATCH", 3)
    monkeypatch.setattr(forecast, "SHARE", 1e-9)
    for n in range(7):
        await burning(it, model=f"m{n}")
    one = forecaster(pool)
    counts = []
    for _ in range(3):
        await one.foretell()
        counts.append(await it.value("select count(*) from alerts"))

    assert counts == [3, 6, 7]


# --- the burn of what is new ---------------------------------------------------------------


async def new_state(it: Bell, *, continues: bool) -> UUID:
    """A counter of a quota that was used for the first time, an hour into its period."""
    await it.execute(
        "insert into quotas (name, definition, fingerprint, notify, generation,"
        " counted_from, defined_from, phase)"
        " values ('daily', '{}', '', '{}', 1, now(), now(), 'ready')"
    )
    await it.execute(
        "insert into quota_periods values"
        " ('daily', now() - interval '1 hour', now() + interval '1 hour', $1)",
        continues,
    )
    state: UUID = await it.value(
        "insert into token_usage (quota, provider, model, tokens_used, token_limit, period_start,"
        " period_end) select quota, 'p', 'm', 60, 100, period_start, period_end"
        " from quota_periods returning id"
    )
    return state


@pytest.mark.parametrize(("continues", "burn"), [(True, 0.1), (False, None)])
async def test_what_is_first_used_burns_from_0_if_its_quota_counted_before(
    pool: Database, it: Bell, continues: bool, burn: float | None
) -> None:
    state = await new_state(it, continues=continues)
    await sample(it)
    await foretell(pool)

    assert await it.value("select burn from usage_burn") == burn
    assert await it.level(state) == (100 if continues else None)


async def test_what_is_first_used_late_does_not_burn(pool: Database, it: Bell) -> None:
    state = await new_state(it, continues=True)
    await SampleStore(pool).restart([state])
    await sample(it)

    assert await it.value("select burn from usage_burn") is None
