"""Crossings by the hundred, each reported until some replica has acknowledged it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from tests.support.load import LIMIT, UPDATE, Connection, Cut, Refused
from tests.support.outbox import Outbox

PEOPLE = 20  # who have a browser
AT_ONCE = 150  # crossings in a report
OWNED = 5  # of these, of people who have a browser; of the others only the operator is told
CLIENTS = 6
PACE = 600.0  # crossings a second, of all clients together
_PATIENCE = 8.0  # seconds for an answer, which a stopped replica does not give
BACKLOG = 5_000  # crossings that are not told yet, beyond which the clients wait: a busy machine
_LOOK_EVERY = 1.0  # seconds
_BACKLOG = """
    select (select count(*) from notification_history where status = 'pending')
        + (select count(*) from token_usage where percentage >= alert_at)"""
# What was told long ago is taken out of the way, else every start of a daemon would read it all.
# Not before a report that was repeated can no longer come from a replica that was stopped.
_FORGET = """
    with told as (
        select a.id, a.state_id from alerts a
        where a.status = 'firing' and a.started_at < now() - interval '90 seconds'
            and not exists (
                select from notification_history h
                where h.alert_id = a.id and h.status <> 'sent')
        limit 5000 for no key update of a skip locked
    ), ended as (
        update alerts a set status = 'resolved', ended_at = now() from told t where a.id = t.id
    )
    delete from token_usage u using told t where u.id = t.state_id"""


@dataclass(slots=True)
class Crossings:
    """``urls``: of the replicas that are said to answer; ``crossed``: who owns what crossed."""

    urls: Callable[[], Sequence[str]]
    box: Outbox
    chance: random.Random
    crossed: dict[str, str] = field(default_factory=dict)  # by model, once acknowledged
    outcomes: Counter[str] = field(default_factory=Counter)  # of requests
    seconds: float = 0.0
    _room: asyncio.Event = field(default_factory=asyncio.Event)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Stopped at the end; what was not acknowledged by then does not count."""
        stop = asyncio.Event()
        began = time.monotonic()
        clients = [asyncio.create_task(self._run(n, stop)) for n in range(CLIENTS)]
        tending = asyncio.create_task(self._tend())
        try:
            yield
        finally:
            stop.set()
            self.seconds = time.monotonic() - began
            await asyncio.gather(*clients)
            tending.cancel()
            await asyncio.gather(tending, return_exceptions=True)

    async def _run(self, client: int, stop: asyncio.Event) -> None:
        connections: dict[str, Connection] = {}
        number, due = 0, time.monotonic()
        while not stop.is_set():
            await self._room.wait()
            owners = {f"m-{client}-{number}-{n}": _owner(number, n) for n in range(AT_ONCE)}
            if not await self._report(connections, owners):
                await asyncio.sleep(0.1)
                continue
            self.crossed |= owners
            number += 1
            due += CLIENTS * AT_ONCE / PACE
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        for connection in connections.values():
            connection.abort()

    async def _report(self, connections: dict[str, Connection], owners: dict[str, str]) -> bool:
        urls = self.urls()
        if not urls:
            return False
        url = self.chance.choice(urls)
        body = json.dumps([
            {
                "provider": "load",
                "model": model,
                "userId": owner,
                "tokensUsed": LIMIT * 95 // 100,
                "tokenLimit": LIMIT,
            }
            for model, owner in owners.items()
        ]).encode()  # fmt: skip
        connection = connections.setdefault(url, Connection(timeout=_PATIENCE))
        try:
            answer = await connection.post(url + UPDATE, body)
        except (Refused, Cut, TimeoutError) as error:
            self.outcomes[type(error).__name__] += 1
            return False
        self.outcomes[str(answer.status)] += 1
        return answer.status == 200

    async def _tend(self) -> None:
        self._room.set()
        while True:
            await asyncio.sleep(_LOOK_EVERY)
            await self.box.connection.execute(_FORGET)
            if await self.box.value(_BACKLOG) < BACKLOG:
                self._room.set()
            else:
                self._room.clear()


def _owner(number: int, n: int) -> str:
    return f"person-{(number * OWNED + n) % PEOPLE}" if n < OWNED else f"nobody-{n}"
