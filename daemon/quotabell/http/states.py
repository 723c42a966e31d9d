"""``/api/token-monitor/usage``: quota states as people see them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import msgspec
from aiohttp import web

from quotabell.domain.burn import exhausts_at
from quotabell.domain.usage import shown_percentage
from quotabell.http import listing, payload
from quotabell.http.auth import Caller
from quotabell.http.problem import NotFound
from quotabell.http.route import Answer, Route
from quotabell.store import states
from quotabell.store.samples import Burn, SampleStore
from quotabell.store.states import Key, ListedState, Position, StateStore

PATH = "/api/token-monitor/usage"
STATES = ("open", "closed", "all")
_LIMIT = 100
_AT_A_TIME = 1_000


class FiringAlert(msgspec.Struct, rename="camel"):
    """The threshold alert of a quota state. ``level``: the percentage that was reached."""

    id: UUID
    level: float
    started_at: datetime
    acknowledged_at: datetime | None
    acknowledged_by: str | None


class QuotaState(msgspec.Struct, rename="camel"):
    """What is used of a quota in a period.

    ``userId`` null: nobody in particular. ``periodStart`` null: a snapshot, which has no
    beginning. ``tokenLimit`` and ``percentage`` null: the limit is not known. ``percentage`` is
    rounded down to two decimals. ``exhaustsAt``: when the limit is reached at the present burn,
    null if that is not known or not within the period.
    """

    id: UUID
    user_id: str | None
    quota: str
    provider: str
    model: str
    period_start: datetime | None
    period_end: datetime | None
    unit: str
    tokens_used: int
    token_limit: int | None
    percentage: float | None
    thresholds: list[float]
    burn_tokens_per_second: float | None
    exhausts_at: datetime | None
    alert: FiringAlert | None
    reported_at: datetime
    updated_at: datetime


class QuotaStates(msgspec.Struct, rename="camel"):
    """A part of the list, highest percentage first and unknown ones last.

    A state that changes while the list is read in parts comes at its end, as it then is, and
    may so come twice.
    """

    items: list[QuotaState]
    next_cursor: str | None


def routes(
    store: StateStore, samples: SampleStore, forget: Callable[[states.Removed], None]
) -> list[Route]:
    """The routes of this resource. ``forget`` is told of a state that was removed."""

    async def listed(request: web.Request, caller: Caller) -> web.StreamResponse:
        asked = listing.Asked(request)
        match = asked.filters(caller)
        state = asked.choice("state", STATES, "open")
        updated_after = asked.moment("updatedAfter")
        limit = asked.whole("limit", _LIMIT, listing.MAX_LIMIT)
        after = asked.position(Position)
        asked.check()
        part = await store.listed(
            caller.user,
            match,
            state=state,
            updated_after=updated_after,
            after=after,
            limit=limit,
        )
        alerts = await store.alerts(caller.user, part.states)
        burns = await samples.burns(caller.user, (state.id for state in part.states))
        thresholds = await store.thresholds(state.key for state in part.states)
        items: list[QuotaState] = []
        for start in range(0, len(part.states), _AT_A_TIME):
            if start:
                await asyncio.sleep(0)  # others wait for the event loop
            items += _shown(part.states[start : start + _AT_A_TIME], alerts, burns, thresholds)
        return payload.listed(request, items, part.end)

    async def remove(request: web.Request, caller: Caller) -> web.StreamResponse:
        key = payload.identifier(request)
        removed = await store.remove(key)
        if removed is None:
            raise NotFound("there is no such quota state")
        forget(removed)
        return web.Response(status=204)

    return [
        Route(
            "GET",
            PATH,
            listed,
            "read",
            "List quota states",
            answers={200: Answer("Highest percentage first", QuotaStates)} | payload.UNCHANGED,
            query=(
                *listing.FILTERS,
                listing.choice("state", "Whose period is so", STATES, "open"),
                listing.moment("updatedAfter", "Only what changed after this time"),
                *listing.paging(_LIMIT),
            ),
            faults=(503,),
        ),
        Route(
            "DELETE",
            PATH + "/{id}",
            remove,
            "admin",
            "Remove a quota state; its alerts end",
            answers={204: Answer("Removed")},
            faults=(503,),
        ),
    ]


def _shown(
    listed: Sequence[ListedState],
    alerts: Mapping[UUID, states.FiringAlert],
    burns: Mapping[UUID, Burn],
    thresholds: Mapping[Key, Sequence[float]],
) -> list[QuotaState]:
    return [
        QuotaState(
            state.id,
            state.user_id or None,
            state.quota,
            state.provider,
            state.model,
            state.period_start,
            state.period_end,
            state.unit,
            state.tokens_used,
            state.token_limit,
            shown_percentage(state.percentage),
            list(thresholds[state.key]),
            *_burn(state, burns.get(state.id)),
            _alert(alerts.get(state.id)),
            state.reported_at,
            state.updated_at,
        )
        for state in listed
    ]


def _burn(state: ListedState, burn: Burn | None) -> tuple[float | None, datetime | None]:
    """The burn, and when it reaches the limit; as of the last figures, not of this moment, so
    that the answer is the same until there are new ones."""
    if burn is None:
        return None, None
    at = max(state.updated_at, burn.at)
    used, limit = state.tokens_used, state.token_limit
    return burn.rate, exhausts_at(used, limit, burn.rate, at, state.period_end)


def _alert(alert: states.FiringAlert | None) -> FiringAlert | None:
    return None if alert is None else FiringAlert(*alert)
