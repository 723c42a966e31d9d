"""Changed thresholds: which ones count for a state, and how states are compared anew."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from math import inf
from time import perf_counter

import pytest
import pytest_asyncio

from quotabell.store.database import LOCK_TIMEOUT
from quotabell.store.queries import load
from tests.support.bell import Armed, Bell, bell
from tests.support.waiting import eventually

USAGE = load("usage")


@pytest_asyncio.fixture
async def it(any_dsn: str) -> AsyncIterator[Bell]:
    async with bell(any_dsn) as ready:
        yield ready


@pytest_asyncio.fixture
async def other(it: Bell, any_dsn: str) -> AsyncIterator[Bell]:
    """A second connection."""
    async with bell(any_dsn) as ready:
        yield ready


# --- scopes --------------------------------------------------------------------------------


async def test_the_most_specific_scope_with_an_active_threshold_counts(it: Bell) -> None:
    async def found() -> list[float]:
        thresholds: list[float] = await it.value(
            "select quotabell_thresholds('reported', 'openai', 'ada')"
        )
        return thresholds

    assert await found() == [75, 90, 100]  # the configuration's
    await it.threshold(10)
    await it.threshold(11)
    assert await found() == [10, 11]
    await it.threshold(20, user="ada")
    assert await found() == [20]
    await it.threshold(30, provider="openai")
    assert await found() == [30]
    await it.threshold(40, provider="openai", user="ada")
    assert await found() == [40]

    for inactive, then in [(40, [30]), (30, [20]), (20, [10, 11]), (11, [10]), (10, [75, 90, 100])]:
        await it.execute(
            "update token_thresholds set is_active = false where threshold_percentage = $1",
            inactive,
        )
        assert await found() == then


@pytest.mark.parametrize(
    ("provider", "user", "rings"),
    [
        ("*", "", {"ada openai", "ada grok", "bob openai", " openai"}),
        ("*", "ada", {"ada openai", "ada grok"}),
        ("openai", "", {"ada openai", "bob openai", " openai"}),
        ("openai", "ada", {"ada openai"}),
        ("openai", "eve", set()),
        ("%", "", set()),
    ],
)
async def test_a_new_threshold_rings_for_its_scope_only(
    it: Bell, provider: str, user: str, rings: set[str]
) -> None:
    names = [("ada", "openai"), ("ada", "grok"), ("bob", "openai"), ("", "openai")]
    states = {f"{u} {p}": await it.report(60, user=u, provider=p) for u, p in names}

    await it.threshold(50, provider, user)
    await it.rearm()

    assert {n for n, state in states.items() if await it.transitions(state)} == rings


# --- changes -------------------------------------------------------------------------------

SET = "update token_thresholds set"
ADD = "insert into token_thresholds (user_id, threshold_percentage) values"


@pytest.mark.parametrize(
    ("changes", "heard"),
    [
        ([f"{ADD} ('ada', 90)"], ["90"]),
        ([f"{ADD} ('ada', 93)"], []),
        ([f"{SET} is_active = false"], ["threshold removed"]),
        ([f"{SET} is_active = false", f"{SET} is_active = true"], ["threshold removed", "85"]),
        ([f"{SET} threshold_percentage = 91"], ["91"]),
        ([f"{SET} threshold_percentage = 60"], []),  # eased: a lower one is still reached
        ([f"{SET} threshold_percentage = 99"], ["threshold removed"]),
        ([f"{SET} user_id = 'bob'", f"{SET} user_id = 'ada'"], ["threshold removed", "85"]),
        (["delete from token_thresholds"], ["threshold removed"]),
        (["truncate token_thresholds"], ["threshold removed"]),
    ],
)
async def test_a_state_follows_its_thresholds(
    it: Bell, changes: list[str], heard: list[str]
) -> None:
    await it.settings([99.5])
    await it.threshold(85, user="ada")
    await it.rearm()
    state = await it.report(92, user="ada")

    for change in changes:
        await it.execute(change)
        await it.rearm()

    assert await it.transitions(state) == ["85", *heard]


async def test_changed_defaults_and_hysteresis_reach_every_state(it: Bell) -> None:
    states = [await it.report(used, model=f"m{used}") for used in (50, 72, 76)]
    await it.report(72, model="m76")  # holds 75 by the hysteresis

    await it.settings([75], hysteresis=1)
    await it.rearm()
    assert [await it.transitions(s) for s in states] == [[], [], ["75", "fell"]]

    await it.settings([60], hysteresis=1)
    await it.rearm()
    assert [await it.transitions(s) for s in states] == [[], ["60"], ["75", "fell", "60"]]


async def test_closed_periods_are_left_alone(it: Bell) -> None:
    await it.report(60, period_end=await it.value("select now() - interval '1 second'"))
    await it.report(60, model="open")

    await it.settings([50])

    assert await it.rearm() == 1


async def test_rows_without_any_threshold_ring_once_one_is_added(it: Bell) -> None:
    await it.settings([])
    await it.rearm()
    state = await it.report(100)
    assert await it.armed(state) == Armed(inf, -inf)

    await it.threshold(99)
    await it.rearm()

    assert await it.transitions(state) == ["99"]


@pytest.mark.parametrize(
    ("change", "scopes"),
    [
        (f"{ADD} ('ada', 10), ('ada', 20), ('bob', 10)", [(None, "ada"), (None, "bob")]),
        (f"{SET} updated_at = now()", []),
        (f"{SET} threshold_percentage = 61 where not is_active", []),
        (
            f"{SET} user_id = 'bob', provider = 'grok' where is_active",
            [("grok", "bob"), ("x", "a")],
        ),
        ("delete from token_thresholds where not is_active", []),
        ("delete from token_thresholds", [("x", "a")]),
        ("truncate token_thresholds", [(None, None)]),
        ("update settings set config_hash = 'new'", []),
        ("update settings set hysteresis = 3", [(None, None)]),
    ],
)
async def test_only_what_matters_is_compared_anew(
    it: Bell, change: str, scopes: list[tuple[str | None, str | None]]
) -> None:
    await it.threshold(50, "x", "a")
    await it.threshold(60, "y", "b", active=False)
    await it.rearm()
    hints: list[object] = []
    await it.connection.add_listener("quotabell", lambda *hint: hints.append(hint[-1]))

    await it.execute(change)

    rows = await it.connection.fetch(
        "select provider, user_id from rearm_scopes order by provider, user_id"
    )
    assert [tuple(row) for row in rows] == scopes
    if scopes:
        await eventually(lambda: hints == ["rearm"])
    else:
        await it.execute("select 1")
        assert hints == []


# --- batches -------------------------------------------------------------------------------

SOME = """
insert into token_usage (user_id, provider, model, tokens_used, token_limit, period_start)
select case i % 3 when 0 then '' when 1 then 'Ä' else 'a,"b"' end, 'p' || i % 4, 'm' || i, i, 60,
    'epoch'::timestamptz + i % 2 * interval '1 day'
from generate_series(0, 59) i
"""


@pytest.mark.parametrize("batch", [1, 2, 5000])
async def test_every_batch_size_reaches_every_state(it: Bell, batch: int) -> None:
    await it.settings([])
    await it.rearm()
    await it.execute(SOME)
    await it.settings([50])

    states = await it.rearm(batch)

    assert states == 60
    assert await it.value("select count(*) from alerts where level = 50") == 30
    assert await it.value("select count(*) from rearm_scopes") == 0
    assert await it.ring_due() == (0, 0, 0)


async def test_another_replica_goes_on_where_one_stopped(it: Bell, other: Bell) -> None:
    await it.settings([])
    await it.rearm()
    await it.execute(SOME)
    await it.settings([50])

    first = await it.value("select quotabell_rearm(25)")
    rest = await other.rearm(10)

    assert (first, rest) == (25, 35)
    assert await it.value("select count(*) from alerts") == 30


async def test_without_the_trigger_the_evaluator_rings_what_was_disarmed(it: Bell) -> None:
    await it.settings([])
    await it.rearm()
    await it.execute(SOME)
    await it.execute("alter table token_usage disable trigger quotabell_ring")
    await it.settings([50])

    await it.rearm()
    await it.ring_due()

    assert await it.value("select count(*) from alerts") == 30


# --- writers at the same time --------------------------------------------------------------


async def test_a_row_that_a_writer_has_not_committed_is_not_forgotten(
    it: Bell, other: Bell
) -> None:
    """It is armed with the lowest threshold of before, and cannot be seen yet."""
    seen = await it.report(60, model="seen")
    writing = other.connection.transaction()
    await writing.start()
    hidden = await other.report(60, model="hidden")

    await it.threshold(50)
    await it.rearm()
    assert await it.transitions(seen) == ["50"]
    await writing.commit()
    await it.rearm()

    assert await it.transitions(hidden) == ["50"]
    assert await it.value("select count(*) from rearm_scopes") == 0


PATIENT = "select exists (select from pg_stat_activity where wait_event = 'PgSleep')"
WAITING = "select exists (select from pg_stat_activity where wait_event_type = 'Lock')"


async def test_a_writer_that_commits_at_once_costs_no_second_pass(it: Bell, other: Bell) -> None:
    writing = other.connection.transaction()
    await writing.start()
    state = await other.report(60)
    await it.threshold(50)

    rearming = asyncio.create_task(it.rearm())
    await eventually(lambda: other.value(PATIENT))
    await writing.commit()

    assert await rearming == 1
    assert await it.transitions(state) == ["50"]


async def test_a_row_that_a_writer_holds_is_waited_for(it: Bell, other: Bell) -> None:
    state = await it.report(10)
    writing = other.connection.transaction()
    await writing.start()
    await other.report(60)

    await it.threshold(50)
    rearming = asyncio.create_task(it.rearm())
    await eventually(lambda: other.value(WAITING))
    assert not rearming.done()
    await writing.commit()
    await rearming

    assert await it.transitions(state) == ["50"]


async def test_rows_that_are_held_leave_room_in_a_batch(it: Bell, other: Bell) -> None:
    await it.execute("alter table token_usage disable trigger quotabell_ring")
    states = [await it.report(95, model=f"m{n}") for n in range(4)]
    async with other.connection.transaction():
        await other.execute("select from token_usage where model <= 'm2' for update")

        await it.ring_due(2)

        assert [await it.transitions(s) for s in states] == [[], [], [], ["90"]]


@pytest.mark.parametrize("lock", ["select from token_usage where model = 'm1' for update", None])
async def test_a_row_that_is_held_for_long_holds_up_no_other(
    it: Bell, other: Bell, lock: str | None
) -> None:
    states = [await it.report(60, model=f"m{n}") for n in range(4)]
    holding = other.connection.transaction()
    await holding.start()
    if lock:
        await other.execute(lock)
    else:
        await other.report(65, model="m1")

    await it.threshold(50)
    for batch in (2, 2, 2, 2):
        await it.value("select quotabell_rearm($1)", batch)
    await it.evaluate()
    await it.threshold(55, "openai")
    await it.evaluate()
    assert [await it.transitions(s) for s in states] == [["50", "55"], [], *[["50", "55"]] * 2]
    await holding.commit()
    await it.rearm()

    assert await it.transitions(states[1]) == ["55"]
    assert await it.value("select count(*) from rearm_scopes") == 0


async def test_rearming_beside_writers_leaves_every_state_right(
    it: Bell, other: Bell, any_dsn: str
) -> None:
    await it.settings([])
    await it.rearm()
    await it.execute(SOME.replace("59", "199").replace("60", "200"))
    order = list(range(200))
    stop = asyncio.Event()

    async def write() -> None:
        numbers = random.Random(1)
        while not stop.is_set():
            n = numbers.choice(order)
            await other.execute(
                "update token_usage set tokens_used = $1 where model = $2",
                numbers.randrange(220),
                f"m{n}",
            )

    writer = asyncio.create_task(write())
    for thresholds in ([50.0], [80.0], [], [25.0, 75.0]):
        await it.settings(thresholds)
        await it.rearm(7)
    stop.set()
    await writer
    await it.rearm()

    assert await it.ring_due() == (0, 0, 0)
    wrong = await it.value(
        "select count(*) from token_usage t left join alerts a"
        " on a.state_id = t.id and a.status = 'firing'"
        " where a.level is distinct from case when percentage >= 75 then 75"
        "   when a.level = 75 and percentage >= 70 then 75 when percentage >= 25 then 25"
        "   when a.level = 25 and percentage >= 20 then 25 end"
    )
    assert wrong == 0
    assert it.warnings + other.warnings == []


# --- rows that are inserted ----------------------------------------------------------------


async def report_many(it: Bell, first: int, last: int, used: int) -> None:
    """The statement of the committer."""
    rest = ("reported", "grok", "grok-3", used, 100, None, "tokens", None)
    rows = [(f"u{i}", *rest) for i in range(first, last)]
    await it.connection.fetch(USAGE["report"], *map(list, zip(*rows, strict=True)))


async def test_inserting_below_the_lowest_threshold_never_enters_ring(it: Bell) -> None:
    await it.threshold(50, user="u1")
    await it.rearm()
    await it.execute("alter table alerts rename to gone")  # every call of ring() now warns

    await report_many(it, 0, 100, 49)
    assert it.warnings == []
    await report_many(it, 100, 103, 50)
    assert len(it.warnings) == 3

    await it.execute("alter table gone rename to alerts")
    assert await it.ring_due() == (3, 3, 3)
    assert await it.transitions() == []  # 50 is u1's alone
    await report_many(it, 0, 103, 75)
    assert await it.value("select array_agg(level order by level) from alerts") == (
        [50.0] + [75.0] * 102
    )


async def test_inserting_below_every_threshold_is_cheap(it: Bell) -> None:
    await report_many(it, 0, 10, 10)  # what is prepared once
    started = perf_counter()
    await report_many(it, 10, 10_010, 10)
    armed = perf_counter() - started

    started = perf_counter()
    await it.execute(
        "insert into token_usage (user_id, provider, model, tokens_used, token_limit)"
        " select 'v' || i, 'openai', 'gpt-5', 10, 100 from generate_series(1, 10000) i"
    )
    unarmed = perf_counter() - started

    print(f"10,000 new rows: {armed:.3f} s armed, {unarmed:.3f} s through the trigger")
    assert armed < unarmed


# --- many ----------------------------------------------------------------------------------

MANY = """
insert into token_usage (user_id, provider, model, tokens_used, token_limit, alert_at)
select 'u' || i, 'openai', 'gpt-5', 10, 100, 75 from generate_series(1, $1::integer) i
"""
DUE = load("alerts")["ring_due"]


async def test_comparing_anew_waits_for_rows_much_shorter_than_reports_do(it: Bell) -> None:
    """It holds rows while it waits, twice at most, and is held up by each."""
    sql = "select proconfig from pg_proc where proname = 'quotabell_rearm'"
    [waits] = [s for s in await it.value(sql) if s.startswith("lock_timeout=")]

    assert 2 * milliseconds(waits.partition("=")[2]) < milliseconds(LOCK_TIMEOUT)


def milliseconds(setting: str) -> int:
    return int(setting.removesuffix("ms"))


async def test_looking_for_what_is_due_is_one_scan(it: Bell) -> None:
    await it.execute(MANY, 20_000)
    await it.execute("update token_usage set tokens_used = 80 where user_id like 'u7%'")
    await it.execute("analyze")

    plan = await it.connection.fetch("explain " + DUE.replace("$1", "500").replace("$2", "'{}'"))

    scans = [line for (line,) in plan if "token_usage t " in line]
    assert [line.split("->")[1].split("  ")[1] for line in scans] == ["Seq Scan on token_usage t"]
    assert not any("SubPlan" in line for (line,) in plan)


async def test_a_hundred_thousand_states_take_seconds_to_rearm_and_none_to_look_at(
    dsn: str,
) -> None:
    async with bell(dsn) as it:
        await it.execute(MANY, 100_000)
        await it.execute("analyze")
        await it.settings([50])
        started = perf_counter()
        assert await it.rearm() == 100_000
        everybody = perf_counter() - started

        await it.threshold(5, user="u77777")
        started = perf_counter()
        assert await it.rearm() == 1
        one = perf_counter() - started

        started = perf_counter()
        assert await it.ring_due() == (0, 0, 0)
        look = perf_counter() - started

        print(f"\n100,000 states: rearmed in {everybody:.1f} s, of one user in {one:.3f} s")
        print(f"100,000 states: what is due found in {look * 1e3:.0f} ms")
        assert everybody < 30
        assert one < 1
        assert look < 1
        armed = await it.value("select array_agg(distinct alert_at) from token_usage")
        assert armed == [50, inf]
        assert await it.transitions() == ["5"]


async def test_a_scope_that_waits_is_not_queued_twice(it: Bell) -> None:
    await it.execute("delete from rearm_scopes")
    for n in range(1, 10):
        await it.execute(
            "insert into token_thresholds (provider, threshold_percentage) values ('openai', $1)", n
        )
        await it.execute("update settings set hysteresis = $1", n)

    assert await it.value("select count(*) from rearm_scopes where provider = 'openai'") == 1
    assert await it.value("select count(*) from rearm_scopes") <= 2


async def test_a_scope_that_is_being_compared_is_queued_again(it: Bell, other: Bell) -> None:
    """What works on it may not have seen the new threshold."""
    await it.execute("delete from rearm_scopes")
    add = "insert into token_thresholds (provider, threshold_percentage) values ('openai', $1)"
    await it.execute(add, 10)
    async with other.connection.transaction():
        await other.value("select quotabell_rearm(10)")
        await it.execute(add, 20)
        assert await it.value("select count(*) from rearm_scopes where provider = 'openai'") == 2

    assert await it.value("select count(*) from rearm_scopes where provider = 'openai'") == 1


async def test_a_comparison_waits_for_who_relies_on_it(it: Bell, other: Bell) -> None:
    await it.execute("delete from rearm_scopes")
    add = "insert into token_thresholds (provider, threshold_percentage) values ('openai', $1)"
    await it.execute(add, 10)
    async with other.connection.transaction():
        await other.execute(add, 20)
        assert await it.value("select quotabell_rearm(10)") is None

    assert await it.value("select quotabell_rearm(10)") is not None
