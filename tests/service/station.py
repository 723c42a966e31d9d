"""Deliverers at work for tests, with a real database and a sender of the test's choice."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from quotabell import log
from quotabell.channels.contract import Notification
from quotabell.channels.vapid import Keyring, VapidKey, VapidSigner
from quotabell.channels.webpush import WebPushChannel
from quotabell.domain.endpoints import EndpointRules
from quotabell.domain.outcome import Outcome
from quotabell.metrics import DELIVERY_OUTCOMES, Metrics
from quotabell.service.deliver import Deliverer, Sender
from quotabell.service.push import WebPushSender
from quotabell.store.database import Database
from quotabell.store.delivery import Claimed, DeliveryStore
from tests.support.push_browser import b64u

KEY = VapidKey.parse(b64u(bytes(31) + b"\x07"))
SENT = Outcome("sent", 201, "sent")


def at_once(tries: int, retry_after: float | None) -> float:
    """A backoff that waits only as long as it must."""
    return max(0.01, retry_after or 0.0)


def endpoint(n: int, host: str = "push.example") -> dict[str, Any]:
    """A subscription for senders that look at nothing."""
    return {"endpoint": f"https://{host}/{n}", "keys": {"p256dh": "p", "auth": "a"}}


@dataclass(slots=True)
class Station:
    """A replica's delivery, with all that it says."""

    deliverer: Deliverer
    database: Database
    metrics: Metrics
    log: io.StringIO

    def value(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def counted(self) -> dict[str, float]:
        """The counters of attempts and of deliveries that ended without one."""
        found = {
            outcome: self.value("quotabell_deliveries_total", channel="webpush", outcome=outcome)
            for outcome in (*DELIVERY_OUTCOMES, "suppressed")
        }
        return {outcome: value for outcome, value in found.items() if value}


@dataclass(slots=True)
class Recorder:
    """A sender that notes what it is given; ``answer`` decides what becomes of it."""

    answer: Callable[[Claimed], Awaitable[Outcome]] | None = None
    sent: list[tuple[float, Claimed]] = field(default_factory=list)

    async def send(self, notification: Notification, claimed: Claimed) -> Outcome:
        self.sent.append((monotonic(), claimed))
        return await self.answer(claimed) if self.answer else SENT

    @property
    def ids(self) -> list[int]:
        return [claimed.id for _, claimed in self.sent]


@contextlib.asynccontextmanager
async def station(
    dsn: str, senders: Mapping[str, Sender], *, worker: str = "w", **options: Any
) -> AsyncIterator[Station]:
    """A deliverer that runs; closed at the end as the daemon does it."""
    stream = io.StringIO()
    logger = log.configure("debug", stream=stream).get_logger()
    metrics = Metrics()
    async with contextlib.AsyncExitStack() as stack:
        database = Database(dsn, pool_size=4, prepared_statements=True, log=logger)
        stack.push_async_callback(database.close)
        await database.open()
        deliverer = Deliverer(
            DeliveryStore(database),
            senders,
            metrics,
            logger,
            worker=worker,
            topic_key=b"key",
            **{"backoff": at_once, "poll": 0.05, **options},
        )
        await deliverer.start()
        for work in (deliverer.run(), deliverer.acknowledge()):
            task = asyncio.create_task(work)
            stack.push_async_callback(_cancelled, task)
        stack.push_async_callback(lambda: deliverer.close())
        yield Station(deliverer, database, metrics, stream)


@contextlib.asynccontextmanager
async def web_push(origin: str) -> AsyncIterator[dict[str, Sender]]:
    """The real channel, for one push service that is trusted."""
    ring = Keyring([VapidSigner(KEY, "mailto:ops@example.com")])
    async with WebPushChannel(EndpointRules((), (origin,)), ring) as channel:
        yield {"webpush": WebPushSender(channel)}


async def _cancelled(task: asyncio.Task[None]) -> None:
    assert not task.done(), task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
