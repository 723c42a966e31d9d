"""Push subscriptions: whom to reach, and with which key."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from quotabell.store.database import Database
from quotabell.store.queries import load

_SQL = load("push")

Row = dict[str, Any]

BROWSERS = 50
"""Active subscriptions of one user; operators, who are no one in particular, are not bounded."""
_SURPLUS = f"more than {BROWSERS} browsers of this user are subscribed"


@dataclass(frozen=True, slots=True)
class PushStore:
    """Every method raises Unavailable."""

    database: Database

    async def subscribe(
        self,
        user: str,
        subscription: Mapping[str, Any],
        *,
        reason: str | None,
        new_key: str | None,
        known_key: str | None,
    ) -> Row | None:
        """Store a subscription, active unless there is a ``reason``; None: somebody else's.

        A new one is never refused: where a user has too many, the one of least use ends.

        ``new_key``: the VAPID key that a new subscription was made with; ``known_key``: what
        the browser says that it was, which also corrects an old row.
        """
        async with self.database.transaction() as connection:
            await connection.execute(_SQL["alone"], user)
            row = await connection.fetchrow(
                _SQL["subscribe"],
                user,
                json.dumps(subscription),
                reason is None,
                reason,
                known_key or new_key,
                known_key,
            )
            if row and user and row["is_active"]:
                others = BROWSERS - 1
                await connection.execute(_SQL["surplus"], user, row["id"], others, _SURPLUS)
        return dict(row) if row else None

    async def unsubscribe(
        self, endpoint: str, *, any_user: bool, user: str | None, auth: str | None
    ) -> bool:
        """End a subscription, as admin, as its user or with its auth secret."""
        return bool(await self.database.fetch(_SQL["unsubscribe"], endpoint, any_user, user, auth))

    async def listed(
        self, user: str | None, after: tuple[datetime, UUID] | None, limit: int, *, operators: bool
    ) -> list[Row]:
        """Without endpoints and keys: both are secrets. ``operators``: also those of no user."""
        at, key = after or (None, None)
        async with self.database.acting_for(user or None) as connection:
            rows = await connection.fetch(_SQL["listed"], user, operators, at, key, limit)
        return [dict(row) for row in rows]

    async def missing_keys(self, ids: Sequence[str]) -> set[str]:
        """The keys in force that are not among these."""
        return {row["id"] for row in await self.database.fetch(_SQL["missing_keys"], list(ids))}

    async def adopt_keys(self, keys: Sequence[tuple[str, str]]) -> set[str]:
        """Make a daemon's keys (id and public part, newest first) the ones in force.

        Returns the ids of keys that it would need and does not have: the one that browsers are
        given by other daemons, and those that active subscriptions were made with. Then nothing
        was changed.
        """
        ids = [key for key, _ in keys]
        async with self.database.transaction() as connection:
            await connection.execute(_SQL["lock_keys"])
            missing = {row["id"] for row in await connection.fetch(_SQL["missing_keys"], ids)}
            if not missing:
                publics = [public for _, public in keys]
                await connection.execute(_SQL["adopt_keys"], ids, publics)
        return missing
