"""Running ``quotabell`` as its users do: a command, its words and its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import quotabell

_SOURCE = str(Path(quotabell.__file__).parents[1])


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str


async def quotabell_run(
    *arguments: str | Path, environment: Mapping[str, str] | None = None, timeout: float = 30.0
) -> Done:
    """What became of ``quotabell arguments…``, run to its end with no other environment."""
    async with quotabell_begun(*arguments, environment=environment) as process:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), err.decode())


@contextlib.asynccontextmanager
async def quotabell_begun(
    *arguments: str | Path,
    environment: Mapping[str, str] | None = None,
    stdin: int = asyncio.subprocess.DEVNULL,
    stdout: int = asyncio.subprocess.PIPE,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that has just been started; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "quotabell", *map(str, arguments)),
        stdin=stdin,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": _SOURCE, **(environment or {})},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
