"""When it rings: thresholds, levels and hysteresis, as the database applies them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from math import inf
from typing import NamedTuple

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quotabell.domain import figures
from tests.support.bell import Armed, Bell, bell
from tests.support.waiting import eventually

LIMIT = 100_000
THRESHOLDS = [75.0, 90.0, 100.0]


@pytest_asyncio.fixture
async def it(any_dsn: str) -> AsyncIterator[Bell]:
    async with bell(any_dsn) as ready:
        yield ready


# --- levels --------------------------------------------------------------------------------

# Percentages one after the other, after "=" what each of them rings, eases (~) or resolves.
# "?" is an unknown limit, "x10" ten times the limit.
LEVELS = """
a threshold rings when it is reached        | 74 76=75
a jump rings once, for the highest          | 10 95=90
exactly 100 % is 100 %                      | 99=90 100=100
99.999 % is not 100 %                       | 99.999=90
each threshold rings on the way up          | 74 75=75 89 90=90 99 100=100 250
the same level again does not ring          | 76=75 76 80 76
a level holds above the hysteresis          | 92=90 86 85 92
below it the level eases silently           | 92=90 84~75
a level that was left rings again           | 92=90 84~75 90=90
the lowest holds above the hysteresis       | 76=75 71 70 76
below it the alert resolves                 | 76=75 69.999=fell
what has resolved rings again               | 76=75 69=fell 76=75
it may fall through all levels              | 100=100 3=fell
it may fall to any level                    | 100=100 80~75
from 100 % it eases to 90 %                 | 100=100 94~90 100=100
an unknown limit never rings                | ? ? 10
a limit becomes known                       | ? 95=90
a limit becomes unknown                     | 95=90 ?=limit_unknown ? 95=90
a higher limit resolves                     | 92=90 x10=limit_raised 9
a higher limit eases                        | 100=100 x1.2~75
a higher limit may come before the fall     | 92=90 x1.05 10=fell
zero usage                                  | 0 100=100 0=fell
"""


def _step(step: str) -> tuple[str, str, str]:
    for mark in "=~":
        value, found, result = step.partition(mark)
        if found:
            return value, mark, result
    return step, "", ""


async def test_levels(it: Bell) -> None:
    for row in LEVELS.strip().splitlines():
        name, _, steps = row.partition("|")
        await _follow_levels(it, name.strip(), steps.split())
    assert it.warnings == []


async def _follow_levels(it: Bell, name: str, steps: list[str]) -> None:
    heard: list[str] = []
    level: float | None = None
    used, limit = 0, LIMIT
    for step in steps:
        value, mark, result = _step(step)
        if value.startswith("x"):
            limit = int(LIMIT * float(value[1:]))
        elif value != "?":
            used = round(float(value) * limit / 100)
        state = await it.report(used, None if value == "?" else limit, model=name)
        if mark == "=":
            heard.append(result.replace("_", " "))
        if mark:
            level = float(result) if result[0].isdigit() else None

        assert await it.transitions(state) == heard, f"{name}: {step}"
        assert await it.level(state) == level, f"{name}: {step}"
        await it.execute("select quotabell_ring($1)", state)
        assert await it.transitions(state) == heard, f"{name}: {step}, once more"
        assert await it.level(state) == level, f"{name}: {step}, once more"


async def test_a_new_limit_rings_without_new_usage(it: Bell) -> None:
    state = await it.report(50, 100)

    await it.report(50, 55)

    assert await it.transitions(state) == ["90"]


# --- the rule, once more in Python ---------------------------------------------------------


def ring(
    level: float | None, percentage: float | None, thresholds: list[float], hysteresis: float
) -> float | None:
    """The level that follows from the level before."""
    if percentage is None:
        return None
    reached = max((t for t in thresholds if t <= percentage), default=None)
    if level in thresholds and percentage >= level - min(hysteresis, level / 2):
        return max(level, reached or 0.0)
    return reached


def announced(before: float | None, after: float | None) -> str | None:
    """What people hear of a change of level."""
    if after is not None and (before is None or after > before):
        return "firing"
    return "resolved" if before is not None and after is None else None


percentages = st.integers(1, 1000).map(float) | st.floats(0.5, 999.5, width=32)
levels = st.lists(percentages | st.sampled_from(THRESHOLDS), max_size=4, unique=True)


class Usage(NamedTuple):
    used: int
    limit: int | None


class Changed(NamedTuple):
    thresholds: list[float]
    hysteresis: float


usage = st.builds(Usage, st.integers(0, 2000), st.sampled_from([None, 1, 7, 100, 1000]))
changes = st.builds(Changed, levels, st.sampled_from([0.0, 5.0, 12.5, 1000.0]))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(usage | changes, min_size=1, max_size=12))
async def test_the_database_agrees_with_the_rule(it: Bell, steps: list[Usage | Changed]) -> None:
    undone = it.connection.transaction()
    await undone.start()
    try:
        await _follow(it, steps)
    finally:
        await undone.rollback()


async def _follow(it: Bell, steps: list[Usage | Changed]) -> None:
    now, rule = Usage(0, 100), Changed(THRESHOLDS, 5.0)
    level = None
    heard: list[str] = []
    state = await it.report(*now)
    for step in steps:
        if isinstance(step, Changed):
            rule = step
            await it.settings(*rule)
            await it.rearm()
        else:
            now = step
            await it.report(*now)
        percentage = now.used * 100.0 / now.limit if now.limit else None
        before, level = level, ring(level, percentage, *rule)
        if said := announced(before, level):
            heard.append(said)
        assert (await it.level(state), await _announced(it)) == (level, heard)

        armed = await it.armed(state)
        assert percentage is None or armed.resolve_at <= percentage < armed.alert_at
        await it.execute("select quotabell_ring($1)", state)
        assert (await it.level(state), await _announced(it)) == (level, heard)
        assert await it.armed(state) == armed


async def _announced(it: Bell) -> list[str]:
    # All in one transaction, so times do not tell them apart.
    rows = await it.connection.fetch(
        "select transition from notification_history order by cmin::text::bigint"
    )
    return [row["transition"] for row in rows]


# --- arming --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("percentage", "armed"),
    [
        (0, Armed(75, -inf)),
        (75, Armed(90, 70)),
        (92, Armed(100, 85)),
        (100, Armed(inf, 95)),
        (None, Armed(75, -inf)),
    ],
)
async def test_a_row_is_armed_with_what_comes_next(
    it: Bell, percentage: int | None, armed: Armed
) -> None:
    state = await it.report(percentage or 0, None if percentage is None else 100)

    await it.execute("select quotabell_ring($1)", state)

    assert await it.armed(state) == armed


async def test_ringing_for_a_state_that_is_gone_does_nothing(it: Bell) -> None:
    await it.execute("select quotabell_ring(gen_random_uuid())")

    assert await it.transitions() == []


# --- periods -------------------------------------------------------------------------------

PAST = "now() - interval '1 second'"


async def test_an_alert_ends_with_its_period(it: Bell) -> None:
    soon = await it.value("select now() + interval '1 second'")
    states = [await it.report(used, model=f"m{used}", period_end=soon) for used in (80, 95, 100)]
    unknown = await it.report(95, None, model="unknown", period_end=soon)

    async def over() -> bool:
        return await it.ring_due() == (3, 3, 3)

    await eventually(over, timeout=5)

    for state in states:
        assert (await it.transitions(state))[1:] == ["period over"]
        assert await it.armed(state) == Armed(inf, -inf)
    assert await it.transitions(unknown) == []
    assert await it.ring_due() == (0, 0, 0)


async def test_a_closed_period_never_rings(it: Bell) -> None:
    past = await it.value(f"select {PAST}")

    state = await it.report(50, period_end=past)
    await it.report(100, period_end=past)
    await it.ring_due()

    assert await it.transitions(state) == []


async def test_states_that_end_below_every_threshold_cost_nothing(it: Bell) -> None:
    await it.report(50, period_end=await it.value(f"select {PAST}"))

    assert (await it.ring_due())[0] <= 1  # psql's row is armed once
    assert await it.ring_due() == (0, 0, 0)


async def test_the_plain_words_write_amounts_as_messages_do(it: Bell) -> None:
    for number in (0, 999, 1_000, 9_999, 10_000, 12_599, 999_999, 1_829_999, 2_500_000_000, 10**12):
        found = await it.value("select quotabell_tokens($1)", number)
        assert found == figures.amount(number)


async def test_a_snapshot_whose_provider_starts_a_new_period_rings_again(it: Bell) -> None:
    state = await it.report(95)
    await it.execute(f"update token_usage set period_end = {PAST}")
    await it.ring_due()

    await it.execute(
        "update token_usage set period_end = now() + interval '1 hour', tokens_used = 10"
    )
    await it.report(76)

    assert await it.transitions(state) == ["90", "period over", "75"]


# --- what the message says -----------------------------------------------------------------


async def test_the_message_names_what_and_how_much(it: Bell) -> None:
    await it.report(1_999_999, 2_000_000, user="ada", provider="open%sai", model="gpt-5")

    [row] = await it.connection.fetch("select title, body from notification_history")

    assert row["title"] == "open%sai / gpt-5 is at 99.9 %"
    assert row["body"] == "1.99 M of 2 M tokens by ada"


async def test_a_percentage_is_cut_not_rounded(it: Bell) -> None:
    await it.report(2**63 - 2, 2**63 - 1)

    title = await it.value("select title from notification_history")

    assert title == "openai / gpt-5 is at 99.9 %"


@pytest.mark.parametrize("name", ["", "O'Neil", "Ä ö 🦉", "back\\slash", "%I %s %%", '"', "a,b}{"])
async def test_names_may_hold_anything(it: Bell, name: str) -> None:
    await it.settings([])
    await it.threshold(50, user=name, provider=name or "*")
    await it.rearm()

    state = await it.report(60, user=name, provider=name or "x", model=name or "x")

    assert await it.transitions(state) == ["50"]
    assert it.warnings == []


# --- whose rights it has -------------------------------------------------------------------

OURS = """
select oid::regprocedure::text from pg_proc
where pronamespace = 'public'::regnamespace and proname ~ '^quotabell_(ring|rearm|announce|thresh'
    '|settings_changed|lowest|tokens|writers)' and
"""


@pytest.mark.parametrize(
    "wrong",
    [
        "not coalesce('search_path=pg_catalog, pg_temp' = any (proconfig), false)",
        "has_function_privilege('quotabell_reader', oid, 'execute')",
        "has_function_privilege('pg_monitor', oid, 'execute')",  # stands for any other role
    ],
)
async def test_functions_are_closed_and_have_a_fixed_path(it: Bell, wrong: str) -> None:
    assert await it.connection.fetch(OURS + wrong) == []
    assert len(await it.connection.fetch(OURS + "prosecdef")) >= 6


async def test_nobody_can_slip_own_types_into_functions_of_the_owner(it: Bell) -> None:
    names = ("float8", "text", "uuid", "timestamptz", "jsonb", "numeric", "int4")
    for name in names:
        await it.execute(
            f"create domain pg_temp.{name} as pg_catalog.{name} check (current_user is null)"
        )

    await it.report(95)
    await it.threshold(93)
    await it.rearm()

    for name in names:
        await it.execute(f"drop domain pg_temp.{name}")
    assert await it.transitions() == ["90", "93"]
    assert it.warnings == []


async def test_whoever_may_write_usage_rings_without_further_rights(it: Bell) -> None:
    await it.execute(
        "grant insert on token_usage to quotabell_reader;"
        "create policy test on token_usage for insert to quotabell_reader with check (true);"
        "set role quotabell_reader"
    )
    await it.execute(
        "insert into token_usage (provider, model, tokens_used, token_limit)"
        " values ('p', 'm', 9, 10)"
    )
    await it.execute("reset role")

    assert await it.transitions() == ["90"]
    assert it.warnings == []
