"""A daemon for a demonstration: quotas and data of its own, gone when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from quotabell.cli.exits import FAILED, CommandFailed
from quotabell.cli.team import MARK
from quotabell.config.net import parse_listen

_READY_WITHIN = 60.0  # seconds; the first start makes a database
_END_WITHIN = 30.0
_ENVIRONMENT = re.compile(r"PATH|HOME|LANG|LC_.*|PYTHON.*|VIRTUAL_ENV|LD_LIBRARY_PATH|TMPDIR")


def configuration(listen: str, data_dir: Path, now: datetime) -> dict[str, Any]:
    """Quotas that the team of the demonstration reaches within minutes."""
    # A period that begins now: its burn is known at once, so a forecast does not have to wait.
    begins = (now - timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "listen": listen,
        "data_dir": str(data_dir),
        "quotas": [
            {
                "name": f"{MARK}team",
                "match": {"provider": f"{MARK}*"},
                "limit": 6_000_000,
                "window": "1h",
                "anchor": begins,
            },
            {
                "name": f"{MARK}daily",
                "match": {"provider": f"{MARK}*"},
                "per": ["user"],
                "limit": 4_000_000,
                "window": "day",
                "weights": {"cache_read": 0.1},
            },
        ],
        "alerts": {
            "evaluate_every": "1s",
            "forecast": {"burn_window": "5m", "hold": "3s", "min_elapsed": 0},
        },
    }


@contextlib.asynccontextmanager
async def served(listen: str, stop: asyncio.Event) -> AsyncIterator[str]:
    """The address of a daemon that runs as long as this lasts.

    Gives up, with an empty address, when ``stop`` is set. Raises CommandFailed.
    """
    try:
        parse_listen(listen)
    except ValueError as error:
        raise CommandFailed(f"--serve {error}", FAILED) from None
    with tempfile.TemporaryDirectory(prefix="quotabell-demo-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        # As root the database runs as another user, who must pass through.
        folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
        config, log = folder / "demo.yaml", folder / "log"
        config.write_text(yaml.safe_dump(configuration(listen, folder / "data", datetime.now(UTC))))
        with log.open("wb") as sink:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "quotabell", "serve", "--config", str(config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env={k: v for k, v in os.environ.items() if _ENVIRONMENT.fullmatch(k)},
                # Ctrl-C goes to all of a terminal's group; the daemon ends after its feeder.
                start_new_session=True,
            )
        try:
            yield await _ready(process, log, stop)
        finally:
            await _end(process)


async def _ready(process: asyncio.subprocess.Process, log: Path, stop: asyncio.Event) -> str:
    until = asyncio.get_running_loop().time() + _READY_WITHIN
    while not stop.is_set():
        said = log.read_text(encoding="utf-8", errors="replace")
        if found := re.search(r"quotabell is ready.*?(https?://[^\s\"]+)", said):
            return found[1]
        if process.returncode is not None or asyncio.get_running_loop().time() > until:
            last = "\n".join(said.splitlines()[-5:])
            raise CommandFailed(f"the daemon of the demonstration did not start:\n{last}", FAILED)
        await asyncio.sleep(0.05)
    return ""


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_END_WITHIN):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
