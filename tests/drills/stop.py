"""SIGTERM under load that does not wait for the daemon: nobody's request is cut off.

And SIGTERM while Postgres hangs: the daemon ends before whoever supervises it would kill it.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable

import aiohttp

from tests.drills.crowd import Newcomers, OpenLoop
from tests.drills.ground import Ground, stored
from tests.drills.report import Report
from tests.support.waiting import eventually

RATE = 500  # reports a second
ENDED_WITHIN = 10.0  # seconds
HANGING = 25.0  # the same while Postgres hangs; the shortest patience in deploy/ is 30
_UPDATE, _USAGE = "/api/token-monitor/update", "/api/token-monitor/usage"


async def stop(ground: Ground, *, before: float, name: str = "first") -> Report:
    """Stop the daemon after ``before`` seconds of load, then compare with the database.

    The load: `RATE` reports a second whatever happens, and clients who come anew each time.
    ``name`` keeps the reports of several stops apart.
    """
    steady = OpenLoop(ground.url(), RATE, f"{name}-steady")
    newcomers = Newcomers(ground.url(), f"{name}-new")
    ended = asyncio.Event()
    senders = asyncio.gather(steady.run(ended), newcomers.run(ended))
    await eventually(lambda: steady.sent > before * RATE, timeout=before + 20)
    begun = time.monotonic()
    code = await ground.daemon.end(signal.SIGTERM)
    took = time.monotonic() - begun
    ended.set()
    await senders
    report = Report()
    if code != 0:
        report.faults.append(f"exit code {code}")
    if took > ENDED_WITHIN:
        report.faults.append(f"ended only after {took:.1f} s")
    report.faults += [*steady.cut, *newcomers.cut][:10]
    if odd := set(steady.statuses) - {200, 503}:
        report.faults.append(f"answers with {odd}")
    acknowledged = steady.acknowledged | newcomers.acknowledged
    lost = acknowledged - (await stored(ground.database)).keys()
    report.faults += [f"{model} was acknowledged and is not stored" for model in sorted(lost)[:10]]
    report.figures |= {
        "sent": steady.sent,
        "statuses": dict(steady.statuses),
        "answers that closed a connection that was kept": steady.closing,
        "acknowledged to newcomers": len(newcomers.acknowledged),
        "found the port closed": steady.refused + newcomers.refused,
        "seconds to the end": round(took, 2),
    }
    return report


async def hang(
    ground: Ground, freeze: Callable[[], Awaitable[None]], thaw: Callable[[], Awaitable[None]]
) -> Report:
    """Stop the daemon while some wait for a Postgres that does not answer any more."""
    body = {"provider": "load", "model": "hang", "tokensUsed": 1, "tokenLimit": 10}
    report = Report()
    async with aiohttp.ClientSession(ground.url()) as session:

        async def ask(number: int) -> int:
            way = session.post(_UPDATE, json=body) if number % 2 else session.get(_USAGE)
            async with way as answer:
                return answer.status

        if await ask(1) != 200:
            report.faults.append("a report before it was not taken")
        await freeze()
        try:
            asking = [asyncio.create_task(ask(number)) for number in range(30)]
            await asyncio.sleep(0.3)
            begun = time.monotonic()
            code = await ground.daemon.end(signal.SIGTERM, timeout=10 * HANGING)
            took = time.monotonic() - begun
        finally:
            await thaw()
        answers = await asyncio.gather(*asking, return_exceptions=True)
    if code != 0 or took > HANGING:
        report.faults.append(f"exit code {code}, after {took:.1f} s")
    if odd := {repr(answer) for answer in answers} - {"200", "503"}:
        report.faults.append(f"answers: {odd}")
    report.figures["seconds to the end"] = round(took, 2)
    return report
