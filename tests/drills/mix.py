"""Snapshots, usage events and repeats at once, by clients who do not give up; and their books."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.drills.crowd import Climbers
from tests.drills.events import QUOTAS, SENDERS, Senders, audit_events, compare_counts
from tests.drills.ground import audit
from tests.support.daemon import DaemonProcess
from tests.support.postgres import Database
from tests.support.waiting import eventually

CLIMBERS = 8  # who go on with a larger number
REPEATERS = 8  # who repeat each number until it is acknowledged
SECTIONS = {"quotas": list(QUOTAS[2]), "alerts": {"evaluate_every": "200ms"}}


@dataclass(frozen=True, slots=True)
class Mix:
    """The clients at work."""

    senders: Senders
    climbers: Climbers

    async def more(self, timeout: float = 30.0) -> None:
        """Wait until everybody has got an answer or so."""
        events, snapshots = self.senders.answers, self.climbers.answers
        await eventually(
            lambda: (
                self.senders.answers > events + SENDERS
                and self.climbers.answers > snapshots + CLIMBERS + REPEATERS
            ),
            timeout=timeout,
        )

    async def audit(self, database: Database, config: Path) -> list[str]:
        """What is wrong with the books; the clients have ended."""
        faults = self.senders.faults + self.climbers.faults
        faults += await audit(database, self.climbers.all)
        faults += await audit_events(database, self.senders)
        return faults + await compare_counts(database, config)

    @property
    def figures(self) -> dict[str, object]:
        return {
            "snapshots acknowledged": self.climbers.answers,
            "events acknowledged": self.senders.counted.total(),
            "as": dict(self.senders.counted),
            "calls": len(self.senders.last),
            "outcomes of requests": dict(self.outcomes),
            "slowest answer to a snapshot (s)": round(
                max(climber.slowest for climber in self.climbers.all), 2
            ),
        }

    @property
    def outcomes(self) -> Counter[str]:
        return self.senders.outcomes + self.climbers.outcomes


@contextlib.asynccontextmanager
async def mixing(
    daemons: Sequence[DaemonProcess], seed: int, *, timeout: float = 15.0
) -> AsyncIterator[Mix]:
    """Clients of all ``daemons``, until the end of the block; each then has its acknowledgement.

    ``timeout``: the seconds after which they give an answer up and ask another daemon.
    """
    chance = random.Random(seed)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    senders = Senders(daemons, seed, midnight - timedelta(days=1), timeout)
    climbers = Climbers(
        lambda: chance.choice(daemons).url, CLIMBERS + REPEATERS, repeats=True, timeout=timeout
    )
    if len(daemons) == 1:  # of two, one could store the older number later
        for climber in climbers.all[:CLIMBERS]:
            climber.repeats = False
    async with climbers, senders.at_work():
        yield Mix(senders, climbers)
