"""Schemathesis: asks for every operation that a daemon describes, and compares the answers."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import NamedTuple

# Not whether all that the schemas allow is taken and all else is not: an array is taken in part.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)


class Compared(NamedTuple):
    """What came of it. ``text``: what Schemathesis prints, with each failure's request."""

    code: int
    text: str


async def compare(
    url: str,
    token: str,
    folder: Path,
    *,
    phases: str = "fuzzing",
    examples: int = 10,
    seed: int | None = None,
    workers: int = 1,
    limit: float = 120.0,
) -> Compared:
    """Drive the daemon at ``url`` with a token that may do everything, for ``limit`` seconds at
    most. The same ``seed`` asks the same."""
    options = [
        f"--header=Authorization: Bearer {token}",
        f"--checks={','.join(CHECKS)}",
        f"--phases={phases}",
        f"--max-examples={examples}",
        f"--workers={workers}",
        "--suppress-health-check=all",
        "--request-timeout=10",
        "--generation-database=none",
        "--continue-on-failure",
        "--no-color",
        *([] if seed is None else [f"--seed={seed}"]),
    ]
    program = Path(sys.executable).with_name("schemathesis")
    process = await asyncio.create_subprocess_exec(
        *(program, "run", f"{url}/openapi.json", *options),
        cwd=folder,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(limit):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Compared(process.returncode or 0, said.decode(errors="replace"))
