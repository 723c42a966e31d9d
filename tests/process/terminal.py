"""Commands run within the test's process: as `main` runs them, without starting Python anew."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

from quotabell.cli import main
from tests.process.program import Done


async def command(
    *arguments: str | Path, stdin: bytes = b"", environment: Mapping[str, str] | None = None
) -> Done:
    """What became of ``quotabell arguments…``; one at a time, since standard output is one."""

    def run() -> int:
        try:
            return main([str(argument) for argument in arguments])
        except SystemExit as end:
            return int(end.code or 0)

    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("QUOTABELL_")}
    kept = {k: v for k, v in kept.items() if k not in ("COLUMNS", "NO_COLOR", "DATABASE_URL")}
    given = kept | dict(environment or {})
    with _streams(out, err, stdin), mock.patch.dict("os.environ", given, clear=True):
        code = await asyncio.to_thread(run)
    return Done(code, *(_text(stream) for stream in (out, err)))


@contextlib.contextmanager
def _streams(out: io.TextIOWrapper, err: io.TextIOWrapper, stdin: bytes) -> Iterator[None]:
    given = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        with mock.patch.object(sys, "stdin", given):
            yield


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    raw = stream.buffer
    assert isinstance(raw, io.BytesIO)
    return raw.getvalue().decode()
