"""SIGTERM under load that does not wait for the daemon: nobody's request is cut off."""

from __future__ import annotations

import asyncio
import signal
import time

from tests.drills.crowd import Newcomers, OpenLoop
from tests.drills.ground import Ground, stored
from tests.drills.report import Report
from tests.support.waiting import eventually

RATE = 500  # reports a second
ENDED_WITHIN = 10.0  # seconds


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
