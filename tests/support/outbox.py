"""The database's side of delivery, for tests: who is subscribed, what is to be told, the books."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from tests.support.postgres import connected

# What must never be, whatever happened. Each query finds the rows that break one rule.
_BOOKS = {
    "the tries of a delivery are not its attempts": """
        select d.id from deliveries d
        where d.tries <> (select count(*) from attempts a where a.delivery_id = d.id)""",
    "an attempt is open without a lease, or a lease without one": """
        select d.id from deliveries d
        where (d.status = 'leased') <> exists (
            select from attempts a where a.delivery_id = d.id and a.outcome is null)""",
    "a sent delivery has not exactly one attempt that says so, or another has one": """
        select d.id from deliveries d
        where (d.status = 'sent')::integer <> (
            select count(*) from attempts a where a.delivery_id = d.id and a.outcome = 'sent')""",
    "a lease has no end, or an end no lease": """
        select id from deliveries where (status = 'leased') <> (lease_until is not null)""",
    "a closed delivery has no time, or an open one has": """
        select id from deliveries
        where (status in ('pending', 'leased')) <> (finished_at is null)""",
    "a notification is not what its deliveries are": """
        select h.id from notification_history h
        left join lateral (
            select count(*) as n, bool_or(status = 'sent') as sent,
                bool_or(status in ('pending', 'leased')) as open,
                bool_or(status = 'failed' or status = 'expired' and reason is not null) as failed,
                bool_or(status = 'expired') as late
            from notification_deliveries d where d.notification = h.id
        ) d on true
        where h.enqueued_at is not null and h.status <> case
            when d.sent then 'sent' when d.open then 'pending' when d.failed then 'failed'
            when d.late and not h.data ? 'repeat' then 'failed' else 'suppressed' end""",
    "a delivery is of a notification that was never turned into any": """
        select d.id from deliveries d join notification_history h on h.id = d.notification_id
        where h.enqueued_at is null""",
    "an older message was sent after a newer one": """
        select later.id from deliveries later
        join deliveries older using (state_id, kind, channel, target)
        join attempts a on a.delivery_id = later.id and a.outcome = 'sent'
        join attempts b on b.delivery_id = older.id
        where later.place > older.place and b.started_at > a.started_at""",
}


@dataclass(frozen=True, slots=True)
class Outbox:
    """A database whose deliveries are looked at."""

    connection: asyncpg.Connection[asyncpg.Record]

    async def subscribe(
        self, user: str, subscription: Any, *, key: str | None = None, active: bool = True
    ) -> UUID:
        """Store a subscription as it is, whatever it is."""
        row = await self.connection.fetchval(
            "insert into push_subscriptions (user_id, subscription, is_active, vapid_key_id) "
            "values ($1, $2, $3, $4) returning id",
            *(user, json.dumps(subscription), active, key),
        )
        assert isinstance(row, UUID)
        return row

    async def alert(self, user: str = "", *, after: UUID | None = None) -> UUID:
        """An alert that fires, not told to anybody; ``after``: its state's last one, now over."""
        if after:
            await self.connection.execute(
                "update alerts set status = 'resolved', ended_at = now() where id = $1", after
            )
        row = await self.connection.fetchval(
            "insert into alerts (state_id, user_id, quota, provider, model, level, tokens_used) "
            "values (coalesce((select state_id from alerts where id = $2), gen_random_uuid()), "
            "$1, 'q', 'openai', 'gpt-5', 90, 90) returning id",
            *(user, after),
        )
        assert isinstance(row, UUID)
        return row

    async def announce(
        self,
        user: str = "",
        *,
        alert: UUID | None = None,
        seq: int | None = None,
        transition: str = "firing",
        title: str = "openai / gpt-5 is at 90 %",
        data: Any = None,
    ) -> UUID:
        """A message that waits to be delivered."""
        row = await self.connection.fetchval(
            "insert into notification_history "
            "(user_id, alert_id, seq, transition, level, title, body, data) "
            "values ($1, $2, $3, $4, 90, $5, '90 of 100 tokens', $6) returning id",
            *(user, alert, seq, transition, title, json.dumps(data or {"quota": "q"})),
        )
        assert isinstance(row, UUID)
        return row

    async def statuses(self) -> Counter[str]:
        """How many deliveries there are of each status."""
        rows = await self.rows("select status, count(*) as n from deliveries group by status")
        return Counter({row["status"]: row["n"] for row in rows})

    async def outcomes(self) -> Counter[str | None]:
        """How many attempts there are of each outcome."""
        rows = await self.rows("select outcome, count(*) as n from attempts group by outcome")
        return Counter({row["outcome"]: row["n"] for row in rows})

    async def closed(self) -> bool:
        """Whether nothing is left to do."""
        return bool(
            await self.value(
                "select not exists (select from deliveries where status in ('pending', 'leased')) "
                "and not exists (select from notification_history where status = 'pending')"
            )
        )

    async def delivery(self, notification: UUID) -> dict[str, Any]:
        """The only delivery of a notification."""
        [row] = await self.rows("select * from deliveries where notification_id = $1", notification)
        return row

    async def delivery_count(self, notification: UUID) -> int:
        """How many deliveries a notification was turned into."""
        sql = "select count(*) from deliveries where notification_id = $1"
        return int(await self.value(sql, notification))

    async def attempts(self, notification: UUID) -> list[dict[str, Any]]:
        return await self.rows(
            "select a.* from attempts a join deliveries d on d.id = a.delivery_id "
            "where d.notification_id = $1 order by a.n",
            notification,
        )

    async def books(self, *, enqueued: int | None = None) -> list[str]:
        """What does not add up; ``enqueued``: how many deliveries there must be in all."""
        faults = [
            f"{rule}: {len(found)}"
            for rule, sql in _BOOKS.items()
            if (found := await self.rows(sql))
        ]
        total = (await self.statuses()).total()
        if enqueued is not None and total != enqueued:
            faults.append(f"{total} deliveries instead of {enqueued}")
        return faults

    async def rows(self, sql: str, *arguments: Any) -> list[dict[str, Any]]:
        return [dict(row) for row in await self.connection.fetch(sql, *arguments)]

    async def value(self, sql: str, *arguments: Any) -> Any:
        return await self.connection.fetchval(sql, *arguments)


@contextlib.asynccontextmanager
async def outbox(dsn: str) -> AsyncIterator[Outbox]:
    async with connected(dsn) as connection:
        yield Outbox(connection)
