"""The watchdog of systemd hears from a daemon whose rounds go on, and only from such a one."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import cast

from quotabell import log
from quotabell.errors import Unavailable
from quotabell.metrics import Metrics
from quotabell.service.evaluate import Evaluator
from quotabell.store.leases import LeaseStore
from quotabell.supervisor import Supervisor
from tests.deploy.units import Manager
from tests.support.waiting import eventually

WATCHDOG = 0.4


class Lost:
    """Of a database that is away."""

    def __init__(self) -> None:
        self.asked = 0

    async def hold(self, *_: object) -> bool:
        self.asked += 1
        raise Unavailable("the database is away")


async def test_rounds_that_stand_still_are_not_covered_up(tmp_path: Path) -> None:
    with Manager(tmp_path / "notify") as manager:
        supervisor = Supervisor(str(manager.path), WATCHDOG)
        watch = asyncio.create_task(supervisor.watch(0.0))
        await eventually(lambda: manager.heard("WATCHDOG=1"))
        await asyncio.sleep(2 * WATCHDOG)  # nothing goes on
        silent = manager.heard("WATCHDOG=1")
        await asyncio.sleep(WATCHDOG)
        assert manager.heard("WATCHDOG=1") == silent

        supervisor.progress()

        await eventually(lambda: manager.heard("WATCHDOG=1") > silent)
        watch.cancel()


async def test_rounds_that_fail_go_on() -> None:
    """An outage of the database is no reason to kill the daemon."""
    told: list[int] = []
    leases = Lost()

    async def fails() -> None:
        raise Unavailable("the database is away")

    evaluator = Evaluator(
        cast(LeaseStore, leases),
        Metrics(),
        log.configure("error").get_logger(),
        instance="a",
        every=0.01,
        everywhere=[fails],
        progress=lambda: told.append(leases.asked),
    )
    rounds = asyncio.create_task(evaluator.run())
    try:
        await eventually(lambda: leases.asked >= 2)
    finally:
        rounds.cancel()
    assert set(told) >= {0, 1}


async def test_nobody_is_told_where_nobody_asks() -> None:
    supervisor = Supervisor.of({"WATCHDOG_USEC": "400000"})
    watch = asyncio.create_task(supervisor.watch(0.0))
    supervisor.ready()
    with supervisor.reloading():
        pass
    supervisor.stopping()
    await asyncio.sleep(0)
    assert not watch.done()  # an end of it would end the daemon
    watch.cancel()


async def test_an_abstract_socket_is_spoken_to_and_what_is_started_does_not_inherit_it() -> None:
    name = f"quotabell-test-{os.getpid()}"
    environment = {"NOTIFY_SOCKET": f"@{name}", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(5)
        manager.bind(f"\0{name}")

        supervisor = Supervisor.of(environment)
        watch = asyncio.create_task(supervisor.watch(0.0))
        await asyncio.sleep(0)
        supervisor.ready()
        watch.cancel()

        assert manager.recv(100) == b"READY=1"  # the watchdog is that of another process
    assert environment == {}
