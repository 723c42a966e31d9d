"""Quota states that run out, by plain SQL, and time that passes for them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from quotabell.store.queries import load
from tests.support.bell import Bell

MINUTE = timedelta(minutes=1)
WINDOW = 10 * MINUTE
NOBODY_ELSE = "lock table usage_burn, usage_samples in share row exclusive mode"
_PASSED = (
    "update usage_samples set time = time - $1::interval",
    "update usage_burn set sampled_at = sampled_at - $1::interval,"
    " restarted_at = restarted_at - $1::interval, exhausts_at = exhausts_at - $1::interval",
    "update forecasts set since = since - $1::interval, against = against - $1::interval",
)


async def elapse(it: Bell, time: timedelta) -> None:
    """Move what was seen of usage into the past."""
    for statement in _PASSED:
        await it.execute(statement, time)


async def sample(it: Bell) -> None:
    """What a daemon does once a minute."""
    await it.connection.fetch(load("samples")["take"], WINDOW, timedelta(0), UUID(int=0), 100_000)


async def burning(it: Bell, *, limit: int | None = 100, ends: float = 60, **of: Any) -> UUID:
    """A state of which 60 tokens were used in the last ten minutes: it reaches 100 in 400 s.

    Its period ends in so many minutes, and began a day before that.
    """
    end = await it.value("select now() + $1::interval", ends * MINUTE)
    async with it.connection.transaction():
        # Until all of it is there a daemon, whose turn may come any moment, takes none itself.
        await it.execute(NOBODY_ELSE)
        state = await it.report(0, limit, period_end=end, **of)
        await it.execute(
            "insert into usage_samples (state_id, time, used, lim)"
            " values ($1, now() - $2::interval, 0, $3)",
            *(state, WINDOW, limit),
        )
        await it.execute("delete from usage_burn where state_id = $1", state)
        await it.report(60, limit, period_end=end, **of)
        await sample(it)
    return state


async def idle(it: Bell) -> None:
    """Nothing was used for a while."""
    await elapse(it, WINDOW)
    await sample(it)
