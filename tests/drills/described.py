"""Every operation that a daemon describes, asked in all the ways that Schemathesis knows."""

from __future__ import annotations

import re
from pathlib import Path

from tests.drills.report import Report
from tests.support.daemon import process, write_config
from tests.support.described import compare
from tests.support.postgres import Database

_TOKEN = "token-of-whoever-may-all"
_PHASES = "examples,coverage,fuzzing,stateful"


async def described(database: Database, folder: Path, *, times: int, seed: int) -> Report:
    """``times``: how often each operation is asked with values made up, in tens."""
    tokens = [{"name": "ops", "token": _TOKEN, "scopes": ["admin"]}]
    config = write_config(
        folder,
        database.dsn,
        auth={"tokens": tokens, "failures_per_minute": 1_000_000},
        push={"tests_per_minute": 1_000_000},
    )
    async with process(config) as daemon:
        compared = await compare(
            *(daemon.url, _TOKEN, folder),
            phases=_PHASES,
            examples=10 * times,
            seed=seed,
            limit=120.0 + 60.0 * times,
        )
    found = re.search(r"(\d+) generated", compared.text)
    faults = [] if compared.code == 0 else [compared.text]
    return Report(faults, {"requests": int(found[1]) if found else 0})
