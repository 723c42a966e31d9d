"""Whichever of two replicas leads is killed, again and again, while usage is reported and one
Prometheus reads both and the name that leads to any of them.

The oracle is who reports: how many calls were sent at each moment, and acknowledged at last.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import time
from bisect import bisect_right
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

from tests.drills.report import Report
from tests.support import daemon
from tests.support.daemon import DaemonProcess
from tests.support.load import Connection, Cut, Refused, steady_port
from tests.support.postgres import Database, connected
from tests.support.prometheus import Prometheus, configured
from tests.support.service import service
from tests.support.waiting import eventually

EVERY = 1  # second between scrapes
GAP = 2  # scrapes at most in a row that the name may miss
TOKEN = "token-of-the-drill"
AMOUNTS = {  # of one call, by the query for the series that counts it
    'quotabell_tokens_total{kind="input"}': 20,
    'quotabell_tokens_total{kind="output"}': 3,
    "quotabell_requests_total": 1,
    "quotabell_cost_usd_total": 0.25,
}
CALL = {"provider": "openai", "model": "gpt-5", "userId": "alice"}
CALL |= {"inputTokens": 20, "outputTokens": 3, "costUsd": 0.25}  # type: ignore[dict-item]
_LAPSE = "update leases set expires_at = now() where name = 'evaluate'"
_RANGE = "[1h]"


async def failover(
    database: Database, folder: Path, *, times: int, seed: int, patient: bool = True
) -> Report:
    """Kill so many leaders; by turns the other takes over before one starts again, and not.

    ``patient``: the lease of who was killed runs out by itself, else as if it had.
    """
    report = Report()
    async with contextlib.AsyncExitStack() as stack:
        replicas = [
            await stack.enter_async_context(daemon.process(_config(folder / name, database)))
            for name in ("one", "other")
        ]
        addresses = [r.url.removeprefix("http://") for r in replicas]
        name = await stack.enter_async_context(service([_split(a) for a in addresses]))
        prometheus = await stack.enter_async_context(
            configured(folder / "prometheus", _scrapes(addresses, name))
        )
        sender = _Sender(replicas)
        began = time.time()
        async with sender.at_work():
            await eventually(lambda: _shows(prometheus, 'job="each"'), timeout=30, every=0.1)
            await eventually(lambda: _shows(prometheus, 'job="any"'), timeout=30, every=0.1)
            for number in range(times):
                began_to_wait = time.monotonic()
                leader = await eventually(lambda: _leader(replicas), timeout=40)
                await leader.end(signal.SIGKILL)
                if (number + seed) % 2:
                    await leader.start()
                else:
                    await _handed_over(replicas, leader, None if patient else database)
                    await leader.start()
                await eventually(lambda: _up(prometheus), timeout=40, every=0.1)
                report.figures["longest failover, seconds"] = max(
                    report.figures.get("longest failover, seconds", 0.0),
                    round(time.monotonic() - began_to_wait, 1),
                )
        with contextlib.suppress(AssertionError):  # the audit tells more
            await eventually(lambda: _all_seen(prometheus, sender.calls), timeout=30, every=0.1)
        report.figures["leaders killed"] = times
        report.figures["calls reported"] = sender.calls
        for query, amount in AMOUNTS.items():
            await _audit_each(prometheus, query, amount, sender, began, report)
            await _audit_name(prometheus, query, amount, sender, report)
    return report


class _Sender:
    """Reports one call after the other, each until it is acknowledged."""

    def __init__(self, replicas: list[DaemonProcess]) -> None:
        self._replicas = replicas
        self.sent: list[float] = []  # when each call was tried first

    @property
    def calls(self) -> int:
        return len(self.sent)

    def sent_by(self, moment: float) -> int:
        return bisect_right(self.sent, moment)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        ending = asyncio.Event()
        task = asyncio.create_task(self._run(ending))
        try:
            yield
        finally:
            ending.set()
            await task

    async def _run(self, ending: asyncio.Event) -> None:
        while not ending.is_set():
            now = datetime.now(UTC) - timedelta(milliseconds=1)
            body = CALL | {"id": f"call-{self.calls}", "time": now.isoformat()}
            self.sent.append(time.time())
            await eventually(lambda body=body: self._report(json.dumps(body)), timeout=60)
            await asyncio.sleep(0.02)

    async def _report(self, body: str) -> bool:
        for replica in self._replicas[:: 1 if self.calls % 2 else -1]:
            connection = Connection(TOKEN)
            with contextlib.suppress(Refused, Cut, TimeoutError):
                url = f"{replica.url}/api/token-monitor/events"
                if (await connection.post(url, body.encode(), close=True)).status == 200:
                    return True
            connection.abort()
        return False


def _config(folder: Path, database: Database) -> Path:
    token = {"name": "drill", "token": TOKEN, "scopes": ["ingest", "metrics"]}
    return daemon.write_config(
        folder,
        database.dsn,
        listen=f"127.0.0.1:{steady_port()}",
        auth={"tokens": [token]},
        alerts={"evaluate_every": "500ms"},
    )


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def _scrapes(addresses: list[str], name: str) -> dict[str, Any]:
    common = {"scrape_interval": f"{EVERY}s", "authorization": {"credentials": TOKEN}}
    each = {"job_name": "each", "static_configs": [{"targets": addresses}]}
    some = {"job_name": "any", "static_configs": [{"targets": [name]}]}
    return {"scrape_configs": [common | each, common | some | {"params": {"collect[]": ["usage"]}}]}


def _of(query: str, labels: str) -> str:
    """The query with another label."""
    return query[:-1] + f",{labels}}}" if query.endswith("}") else f"{query}{{{labels}}}"


async def _leader(replicas: list[DaemonProcess]) -> DaemonProcess | None:
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        for replica in replicas:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{replica.url}/metrics?collect[]=health") as answer:
                    if "\nquotabell_leader 1.0\n" in await answer.text():
                        return replica
    return None


async def _handed_over(
    replicas: list[DaemonProcess], leader: DaemonProcess, lapse: Database | None
) -> None:
    if lapse is not None:
        async with connected(lapse.dsn) as connection:
            await connection.execute(_LAPSE)
    others = [replica for replica in replicas if replica is not leader]
    await eventually(lambda: _leader(others), timeout=40)


async def _shows(prometheus: Prometheus, labels: str) -> bool:
    return bool(await prometheus.query(_of("quotabell_requests_total", labels)))


async def _up(prometheus: Prometheus) -> bool:
    """All targets, and what is told by who leads."""
    up = await prometheus.value("sum(up)")
    return up == 3 and await _shows(prometheus, 'job="each"')


async def _all_seen(prometheus: Prometheus, calls: int) -> bool:
    found = await prometheus.query("sum by (job) (quotabell_requests_total)")
    return [value for _, value in found] == [calls, calls]


async def _audit_each(
    prometheus: Prometheus, query: str, amount: float, sender: _Sender, began: float, report: Report
) -> None:
    """What the shipped rules and dashboards read of both replicas."""
    read = "max without (instance) ({})".format(_of(query, 'job="each"'))
    now, step = time.time(), EVERY / 4
    found = await prometheus.ask(
        "query_range", query=read, start=str(began), end=str(now), step=str(step)
    )
    if len(found["result"]) != 1:
        report.faults.append(f"{read}: {len(found['result'])} series")
        return
    points = [(at, float(value) / amount) for at, value in found["result"][0]["values"]]
    for (_, earlier), (at, later) in itertools.pairwise(points):
        if later < earlier:
            report.faults.append(f"{read}: {later} calls after {earlier} at {at}")
    for at, calls in points:
        if calls > sender.sent_by(at + EVERY):  # a scrape may take that long
            report.faults.append(f"{read}: {calls} calls at {at}, never sent")
    # Asked for by itself: the last step of a range may lie before the last scrape.
    if (last := (await prometheus.value(read)) / amount) != sender.calls:
        report.faults.append(f"{read}: {last} calls at last, not {sender.calls}")


async def _audit_name(
    prometheus: Prometheus, query: str, amount: float, sender: _Sender, report: Report
) -> None:
    """What is read through the name of the service, scrape by scrape."""
    read = _of(query, 'job="any"')
    if [value for _, value in await prometheus.query(f"resets({read}{_RANGE})")] != [0]:
        report.faults.append(f"{read} was reset, or is not one series")
    (series,) = (await prometheus.ask("query", query=read + _RANGE))["result"]
    (scraped,) = (await prometheus.ask("query", query=f'up{{job="any"}}{_RANGE}'))["result"]
    shown = {at: float(value) / amount for at, value in series["values"]}
    since = [at for at, _ in scraped["values"] if at >= min(shown)]
    missed = [len(list(run)) for there, run in itertools.groupby(since, shown.__contains__)
              if not there]  # fmt: skip
    report.figures["scrapes of the service's name"] = len(since)
    report.figures["missed in a row, at most"] = max(missed, default=0)
    if max(missed, default=0) > GAP:
        report.faults.append(f"{read} was away for {max(missed)} scrapes")
    if list(shown.values())[-1] != sender.calls:
        report.faults.append(f"{read}: not {sender.calls} calls at last")
