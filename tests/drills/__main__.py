"""``python -m tests.drills NAME [--times N] [--seed N]``: the long form of the drills."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Awaitable, Callable

from tests.drills.bell import bell
from tests.drills.commit import commit
from tests.drills.days import LEAP_YEAR, ZONES, days
from tests.drills.described import described
from tests.drills.events import events
from tests.drills.failover import failover
from tests.drills.ground import DurableCluster, Ground, durable_cluster, ground, temporary_folder
from tests.drills.idle import idle
from tests.drills.kill import kill
from tests.drills.leaders import SKEW, leaders
from tests.drills.mixed import mixed
from tests.drills.outage import outage
from tests.drills.refusing import WAYS, refusing
from tests.drills.replicas import calm, replicas, unheard
from tests.drills.report import Report
from tests.drills.sick import sick
from tests.drills.soak import soak
from tests.drills.stop import hang, stop
from tests.drills.storm import storm


async def _kill(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    return await kill(ground, times=times, seed=seed)


async def _mixed(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    with temporary_folder() as folder:
        return await mixed(cluster, folder, kills=4 * times, stops=times, seed=seed)


async def _commit(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    with temporary_folder() as folder:
        return await commit(cluster.create_database(), folder, times=times, seed=seed)


async def _refusing(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    whole = Report()
    for way in WAYS:
        with temporary_folder() as folder:
            report = await refusing(cluster, folder, way=way, times=times, seed=seed)
        whole.faults += [f"{way}: {fault}" for fault in report.faults]
        whole.figures[way] = report.figures
    return whole


async def _away(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    return await outage(ground, cluster.crash, cluster.restart, times=times, away=60.0, seed=seed)


async def _cut(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    return await outage(ground, cluster.crash, cluster.restart, times=times, away=1.0, seed=seed)


async def _freeze(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    return await outage(ground, cluster.freeze, cluster.thaw, times=times, away=5.0, seed=seed)


async def _stop(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    reports = []
    for number in range(times):
        reports.append(await stop(ground, before=2.0, name=f"stop-{number}"))
        await ground.daemon.start()
    last = reports[-1]
    last.faults = [fault for report in reports for fault in report.faults]
    return last


async def _hang(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    whole = Report(figures={"seconds to the end": []})
    for _ in range(times):
        report = await hang(ground, cluster.freeze, cluster.thaw)
        whole.faults += report.faults
        whole.figures["seconds to the end"].append(report.figures["seconds to the end"])
        await ground.daemon.start()
    return whole


async def _bell(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    with temporary_folder() as folder:
        return await bell(cluster.create_database(), folder, times=times, seed=seed)


async def _replicas(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    return await _faulty(cluster, times, seed, pooled=False)


async def _pooled(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    return await _faulty(cluster, times, seed, pooled=True)


async def _faulty(cluster: DurableCluster, times: int, seed: int, *, pooled: bool) -> Report:
    with temporary_folder() as folder:
        return await replicas(
            *(cluster.create_database(), folder),
            **{"kills": times, "stops": max(1, times // 5), "seed": seed, "pooled": pooled},
        )


async def _unheard(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    with temporary_folder() as folder:
        return await unheard(cluster.create_database(), folder, times=times)


async def _leaders(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    whole = Report()
    for count in (2, 3):
        with temporary_folder() as folder:
            report = await leaders(
                *(cluster.create_database(), folder),
                **{"replicas": count, "kills": times, "stops": times, "seed": seed},
            )
        whole.faults += report.faults
        whole.figures[f"{count} replicas"] = report.figures
    return whole


async def _clock(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    with temporary_folder() as folder:
        return await leaders(
            *(cluster.create_database(), folder),
            **{"replicas": 2, "kills": times, "stops": times, "seed": seed, "skew": SKEW},
        )


async def _calm(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    with temporary_folder() as folder:
        return await calm(cluster.create_database(), folder, times=times, seed=seed)


async def _sick(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    with temporary_folder() as folder:
        return await sick(cluster.create_database(), folder, times=times, seed=seed)


async def _events(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    with temporary_folder() as folder:
        return await events(cluster.create_database(), folder, times=times, seed=seed)


async def _storm(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    with temporary_folder() as folder:
        return await storm(cluster.create_database(), folder, count=1_000 * times)


async def _soak(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    with temporary_folder() as folder:
        length = 60.0 * times
        database = cluster.create_database()
        return await soak(database, folder, warm=length / 3, length=length, seed=seed)


async def _described(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    with temporary_folder() as folder:
        return await described(cluster.create_database(), folder, times=times, seed=seed)


async def _crowd(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    with temporary_folder() as folder:
        return await idle(cluster.create_database(), folder, count=1_000 * times)


async def _failover(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    with temporary_folder() as folder:
        return await failover(cluster.create_database(), folder, times=times, seed=seed)


async def _days(cluster: DurableCluster, ground: Ground, times: int, seed: int) -> Report:
    with temporary_folder() as folder:
        zone = ZONES[seed % len(ZONES)]
        return await days(folder, first=LEAP_YEAR, length=times, zone=zone, seed=seed)


DRILLS: dict[str, Callable[[DurableCluster, Ground, int, int], Awaitable[Report]]] = {
    "kill": _kill,  # SIGKILL of the daemon
    "mixed": _mixed,  # SIGKILL of the daemon four times as often as stops of Postgres, all reports
    "commit": _commit,  # the connection to Postgres is reset while a COMMIT is under way
    "cut": _cut,  # immediate stop of Postgres
    "away": _away,  # the same for a minute
    "refusing": _refusing,  # Postgres is read-only, a standby, on a full disk
    "freeze": _freeze,  # Postgres does not answer any more
    "stop": _stop,  # SIGTERM of the daemon
    "hang": _hang,  # the same while Postgres does not answer
    "bell": _bell,  # SIGKILL at the named points of delivery, so often at each
    "replicas": _replicas,  # the same of three daemons, and SIGSTOP beyond a lease
    "pooled": _pooled,  # the same through PgBouncer in transaction mode, without LISTEN
    "unheard": _unheard,  # all connections that LISTEN end: a crossing is told soon
    "leaders": _leaders,  # of two and three daemons the one that leads is killed or stopped
    "clock": _clock,  # the same, and the clock of one is ahead by ten minutes
    "calm": _calm,  # three daemons, so many thousand deliveries, no fault and no duplicate
    "sick": _sick,  # one push service hangs: by how much the others are late
    "events": _events,  # SIGKILL of two daemons that count usage events, while quotas change
    "failover": _failover,  # SIGKILL of whichever of two leads, under a Prometheus
    "crowd": _crowd,  # so many thousand connections that idle, and what each takes
    "storm": _storm,  # so many thousand quotas cross at once, and are one message for each
    "soak": _soak,  # so many minutes of everything, and does anything grow
    "days": _days,  # so many days by a clock that leaps, in a zone with daylight saving
    "described": _described,  # every operation of /openapi.json, and what it answers
}


async def _run(name: str, times: int, seed: int) -> bool:
    print(f"{name}, {times} times, seed {seed}", flush=True)
    with temporary_folder() as folder, durable_cluster() as cluster:
        async with ground(cluster.create_database(), folder) as field:
            report = await DRILLS[name](cluster, field, times, seed)
            print(report, flush=True)
            if report.faults:
                print(field.daemon.log_file.read_text()[-5000:])
    return not report.faults


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.drills", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(DRILLS)}")
    parser.add_argument("--times", "--minutes", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - DRILLS.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    names = arguments.names or list(DRILLS)
    results = [asyncio.run(_run(name, arguments.times, arguments.seed)) for name in names]
    return 0 if all(results) else 1


sys.exit(main())
