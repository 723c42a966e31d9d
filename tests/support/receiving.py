"""The receivers of other programs' reports on a real port and database, at a time of choice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import aiohttp
from aiohttp import web

from quotabell import log as logs
from quotabell.config import Config
from quotabell.config.model import Token
from quotabell.http import cloudevents, litellm, otlp
from quotabell.http.auth import Gate
from quotabell.http.listener import Listener, bind
from quotabell.http.receiving import Current, Receivers
from quotabell.http.routing import Draining, mount
from quotabell.metrics import Metrics
from quotabell.service.commit import Committer
from quotabell.service.reading import reading_of
from quotabell.service.signals import Signals
from quotabell.service.sources import Sources
from quotabell.store.database import Database, DatabaseClock
from quotabell.store.events import EventStore
from quotabell.store.signals import SignalStore
from quotabell.store.sources import SourceStore
from quotabell.store.usage import UsageStore
from tests.http.client import Client
from tests.support.postgres import Database as Made


class SetClock(DatabaseClock):
    """Says what it is told."""

    def __init__(self, at: datetime) -> None:
        super().__init__()
        self.at = at

    def now(self) -> datetime:
        return self.at


@dataclass(slots=True)
class Station:
    """``client`` has no token; `as_sender` gives one that has."""

    client: Client
    clock: SetClock
    metrics: Metrics
    signals: Signals

    def as_sender(self, name: str) -> Client:
        return self.client.with_token(_secret(name))


def _secret(name: str) -> str:
    return f"token-of-{name}".ljust(16, "-")


@contextlib.asynccontextmanager
async def receiving(
    config: Config, database: Made, at: datetime, senders: Sequence[str]
) -> AsyncIterator[Station]:
    """Receivers whose clock stands at ``at``, with a token for each of ``senders``."""
    log = logs.configure("warning", "logfmt").get_logger()
    async with contextlib.AsyncExitStack() as stack:
        store = Database(database.dsn, pool_size=4, prepared_statements=True, log=log)
        stack.push_async_callback(store.close)
        await store.open()
        store.clock = clock = SetClock(at)
        metrics = Metrics()
        events: Any = Committer(EventStore(store), metrics, log, max_pending=50_000)
        snapshots: Any = Committer(UsageStore(store), metrics, log, max_pending=50_000)
        for committer in (events, snapshots):
            task = asyncio.create_task(committer.run())
            stack.callback(task.cancel)
        overrides = {chosen.source: chosen.signal for chosen in config.sources.signals}
        signals = Signals(SignalStore(store), overrides)
        receivers = Receivers(
            events,
            snapshots,
            signals,
            Sources(SourceStore(store), clock.now, log),
            metrics,
            config.ingest,
            Current(reading_of(config)),
            timedelta(days=35),
            clock.now,
        )
        gate = Gate(
            [Token(name=n, token=_secret(n), scopes=("ingest",)) for n in senders],  # type: ignore[arg-type]
            open_metrics=False,
        )
        app = web.Application(client_max_size=config.ingest.max_body)
        draining = Draining()
        resources = (otlp, litellm, cloudevents)
        mount(app, [r for of in resources for r in of.routes(receivers, [])], gate, draining, log)
        listener = Listener(app, bind("127.0.0.1", 0), draining, room=1024)
        stack.push_async_callback(listener.close)
        await listener.start()
        session = await stack.enter_async_context(aiohttp.ClientSession())
        yield Station(Client(session, f"http://127.0.0.1:{listener.port}"), clock, metrics, signals)
