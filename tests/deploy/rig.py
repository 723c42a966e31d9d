"""Two daemons with something to show, as the shipped configuration has Prometheus scrape them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from tests.deploy.files import PROMETHEUS
from tests.support import daemon
from tests.support.alertmanager import Alertmanager, alertmanager
from tests.support.load import steady_port
from tests.support.postgres import Database, connected
from tests.support.prometheus import Prometheus, configured
from tests.support.pushservice import Answer, PushService
from tests.support.receiver import Receiver
from tests.support.waiting import eventually

TOKENS = [
    {"name": "apps", "token": "ingest-token-of-the-test", "scopes": ["ingest"]},
    {"name": "prometheus", "token": "metrics-token-of-the-test", "scopes": ["metrics"]},
    {"name": "ops", "token": "admin-token-of-the-test", "scopes": ["admin"]},
]
INGEST, METRICS, ADMIN = (str(token["token"]) for token in TOKENS)
# One event of alice's: of a limit of 100,000.
EVENT = {
    "provider": "openai",
    "model": "gpt-5",
    "userId": "alice",
    "inputTokens": 10_000,
    "cacheReadTokens": 5_000,
    "outputTokens": 5_000,
    "costUsd": 0.25,
}
EVENTS = 3
TOKENS_AN_EVENT = 20_000
_FOLLOWED = "select bool_and(phase = 'ready') from quotas"  # what is counted anew has no burn


@dataclass(frozen=True, slots=True)
class Watched:
    """What was fed: alice at 60 %, a shared block at 70 % that burns, bob at 95 % and carol at
    105 %, of whom carol's browser refuses messages."""

    prometheus: Prometheus
    alertmanager: Alertmanager
    daemons: Sequence[str]  # their addresses, the one that evaluates first
    database: Database
    folder: Path  # for what else is started
    began: float  # the time of the first scrape at the earliest


@contextlib.asynccontextmanager
async def watched(folder: Path, database: Database) -> AsyncIterator[Watched]:
    """Daemons, Prometheus and Alertmanager; ready when all that is fed has been scraped."""
    async with contextlib.AsyncExitStack() as stack:
        push = await stack.enter_async_context(PushService())
        receiver = await stack.enter_async_context(Receiver())
        manager = await stack.enter_async_context(
            alertmanager(folder / "alertmanager", receiver.origin)
        )
        addresses = [f"127.0.0.1:{steady_port()}" for _ in range(2)]
        began = time.time()
        prometheus = await stack.enter_async_context(
            configured(folder / "prometheus", _configuration(folder, addresses, manager.url))
        )
        now = datetime.now(UTC)
        leader, other = [
            daemon.configure(
                folder / name,
                database.dsn,
                listen=address,
                auth={"tokens": TOKENS},
                quotas=_quotas(now),
                alerts={"evaluate_every": "500ms"},
                push={"trusted_origins": [push.origin]},
            )
            for name, address in zip(("leader", "other"), addresses, strict=True)
        ]
        session = await stack.enter_async_context(aiohttp.ClientSession())
        feed = _Feed(session, f"http://{addresses[0]}")
        # Samples are taken at the start and then once a minute; burn is known with the first one
        # of a period that began a moment ago. So the daemon starts once more.
        async with daemon.running(leader), connected(database.dsn) as connection:
            await eventually(lambda: connection.fetchval(_FOLLOWED), timeout=40)
            await feed.events("block", provider="anthropic", model="claude-5", outputTokens=7_000)
            await feed.events("alice-0", **EVENT)
        daemons = [
            (await stack.enter_async_context(daemon.running(config))).url
            for config in (leader, other)
        ]
        await feed.subscribe(push)

        await eventually(lambda: _scraped(prometheus), timeout=40)
        ready = Watched(prometheus, manager, daemons, database, folder, began)
        for number in range(1, EVENTS):
            await feed.events(f"alice-{number}", **EVENT)
        await feed.snapshot("bob", 9_500)
        await feed.snapshot("carol", 10_500)
        await feed.nonsense()
        await eventually(lambda: _shown(prometheus), timeout=40, every=0.1)
        yield ready


def _quotas(now: datetime) -> list[dict[str, Any]]:
    """Periods that neither begin nor end within the test, whenever it runs."""
    day, block = now - timedelta(hours=12), now - timedelta(minutes=1)
    return [
        {
            "name": "daily",
            "match": {"provider": "openai"},
            "per": ["provider", "model", "user"],
            "limit": 100_000,
            "window": "24h",
            "anchor": day.isoformat(),
        },
        {
            "name": "block",
            "match": {"model": "claude-*"},  # of any provider
            "limit": 10_000,
            "window": "1h",
            "anchor": block.isoformat(),
        },
    ]


@dataclass(frozen=True, slots=True)
class _Feed:
    session: aiohttp.ClientSession
    url: str

    async def _post(self, path: str, token: str, body: object, status: int = 200) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.session.post(self.url + path, json=body, headers=headers) as answer:
            assert answer.status == status, await answer.text()

    async def events(self, name: str, **event: Any) -> None:
        at = datetime.now(UTC) - timedelta(milliseconds=1)
        body = {"id": name, "time": at.isoformat()} | event
        await self._post("/api/token-monitor/events", INGEST, body)

    async def snapshot(self, user: str, used: int) -> None:
        body = {"provider": "grok", "model": "grok-3 (beta)", "userId": user}
        body |= {"tokensUsed": used, "tokenLimit": 10_000}  # type: ignore[dict-item]
        await self._post("/api/token-monitor/update", INGEST, body)

    async def nonsense(self) -> None:
        await self._post("/api/token-monitor/events", INGEST, {"provider": ""}, 422)

    async def subscribe(self, push: PushService) -> None:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        address = f"{self.url}/api/push/vapid-public-key"
        async with self.session.get(address, headers=headers) as answer:
            key = (await answer.json())["publicKey"]
        for user in ("bob", "carol"):
            browser = push.subscribe(key)
            if user == "carol":
                push.script(*[Answer(400)] * 5, to=browser)
            body = {"userId": user, "subscription": browser.subscription}
            await self._post("/api/push/subscribe", ADMIN, body)


def _configuration(folder: Path, addresses: Sequence[str], manager: str) -> dict[str, Any]:
    """The one that is shipped for replicas, adapted.

    The name that leads to any replica leads to the one that does not evaluate.
    """
    adapted = _adapted("prometheus-replicas.yml", folder, manager)
    usage, health = adapted["scrape_configs"]
    usage["static_configs"] = [{"targets": addresses[1:]}]
    del health["dns_sd_configs"]
    health["static_configs"] = [{"targets": addresses}]
    return adapted


def for_one(rig: Watched) -> dict[str, Any]:
    """The one that is shipped for one daemon, adapted to the one that evaluates, and to no
    Alertmanager: the other Prometheus tells it."""
    adapted = _adapted("prometheus.yml", rig.folder, "http://127.0.0.1:9")
    (job,) = adapted["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["localhost:3001"]}]
    job["static_configs"] = [{"targets": [rig.daemons[0].removeprefix("http://")]}]
    return adapted


def _adapted(name: str, folder: Path, manager: str) -> dict[str, Any]:
    """What is shipped under this name but for the targets: to a test's token and Alertmanager, and
    faster."""
    token = folder / "token"
    token.write_text(METRICS)
    shipped: dict[str, Any] = yaml.safe_load((PROMETHEUS / name).read_text("utf-8"))
    shipped["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    shipped["rule_files"] = [str(PROMETHEUS / path) for path in shipped["rule_files"]]
    (told,) = shipped["alerting"]["alertmanagers"]
    told["static_configs"] = [{"targets": [manager.removeprefix("http://")]}]
    for job in shipped["scrape_configs"]:
        job["authorization"]["credentials_file"] = str(token)
    return shipped


async def _scraped(prometheus: Prometheus) -> bool:
    """Every target twice, so that what is fed from now on is an increase."""
    return [value >= 2 for _, value in await prometheus.query("sum_over_time(up[1m])")] == [
        True
    ] * 3


async def _shown(prometheus: Prometheus) -> bool:
    """All that was fed, and for two scrapes already."""
    fed = f"""
        sum(quotabell_tokens_total{{user="alice"}} offset 2s) == {EVENTS * TOKENS_AN_EVENT}
        and count(quotabell_alert_level_percent offset 2s) == 2
        and sum(quotabell_deliveries_total{{outcome="sent"}} offset 2s) == 1
        and sum(quotabell_deliveries_total{{outcome="failed"}} offset 2s) == 1
        and sum(quotabell_ingest_events_total{{outcome="rejected"}} offset 2s) == 1
        and count(quotabell_quota_exhaustion_timestamp_seconds offset 2s) == 1
    """
    return bool(await prometheus.query(fed))
