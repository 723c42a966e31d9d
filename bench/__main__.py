"""``python -m bench [NAME …]``: measure all budgets, or those named."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Callable

from bench import (
    answers,
    arrays,
    bell,
    bell_claim,
    bell_fanout,
    beside,
    events,
    page,
    scrape,
    settling,
    stall,
    update,
)
from bench.bell import Figure
from bench.pairs import Comparison

BENCHES: dict[str, Callable[[int], AsyncIterator[Comparison | Figure]]] = {
    "update": update.run,
    "arrays": arrays.run,
    "scrape": scrape.run,
    "scrape-million": scrape.million,
    "beside-scrapes": beside.run,
    "bell": bell.run,
    "push": bell_fanout.run,
    "claim": bell_claim.run,
    "events": events.run,
    "growth": events.growth,
    "memory": events.memory,
    "settling": settling.run,
    "page": page.run,
    "stall": stall.run,
    "answers": answers.run,
}


BY_NAME_ONLY = ("scrape-million",)


async def _run(names: list[str], pairs: int) -> bool:
    kept = True
    for name in names:
        async for comparison in BENCHES[name](pairs):
            print(comparison, flush=True)
            kept = kept and comparison.kept
    return kept


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHES)}")
    parser.add_argument("--pairs", type=int, default=7, help="interleaved pairs (default: 7)")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - BENCHES.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    names = arguments.names or [name for name in BENCHES if name not in BY_NAME_ONLY]
    kept = asyncio.run(_run(names, max(1, arguments.pairs)))
    return 0 if kept else 1


sys.exit(main())
