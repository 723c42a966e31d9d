"""The states of a quota that changed: their limits, and what rings by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quotabell.domain.quotas import Quota
from quotabell.store.database import Connection
from quotabell.store.queries import load

_SQL = load("quotas")
_RESTART = load("samples")["restart"]


async def follow(connection: Connection, row: Any, quota: Quota | None, batch: int) -> Any:
    """Let the next states follow ``quota`` (None: it is removed), which ``row`` tells of.

    Returns the last of them, None: there are no more.
    """
    after = (row["name"], *row["settled"], row["settled_period"], batch, row["changed_at"])
    if quota is None or not quota.overrides:
        limit = None if quota is None else quota.limit
        of = (limit, row["generation"], row["seeding"])
        last = await connection.fetchrow(_SQL["settle"], *after, *of)
        if last is None:
            return None
        if last["ids"]:
            await connection.execute(_RESTART, last["ids"])
        if not last["moved"]:
            return last if last["states"] == batch else None
    states = await connection.fetch(_SQL["states"], *after)
    await _settle_each(connection, row, quota, states)
    return states[-1] if len(states) == batch else None


async def _settle_each(
    connection: Connection, row: Any, quota: Quota | None, states: Sequence[Any]
) -> None:
    gone: list[Any] = []
    limits: dict[Any, int] = {}
    for state in states:
        if quota is None or state["generation"] not in (row["generation"], None):
            gone.append(state["id"])
        elif state["open"]:  # None: deleted meanwhile
            subject = state["provider"], state["model"], state["user_id"]
            limits[state["id"]] = quota.limit_for(*subject)
    if gone:
        await connection.execute(_SQL["delete"], gone)
    if limits:
        await connection.execute(_SQL["compare"], list(limits), list(limits.values()))
    if row["seeding"]:
        await connection.execute(_RESTART, list(limits))


async def finish(connection: Connection, row: Any) -> None:
    """Note that all states follow the quota that ``row`` tells of."""
    if row["phase"] == "removed":
        await connection.execute(_SQL["forget"], row["name"])
        return
    await connection.execute(_SQL["ready"], row["name"])
    if row["seeding"]:
        await connection.execute(_SQL["digest"], row["name"], row["changed_at"])
