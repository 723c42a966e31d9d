"""A shell in a clean directory that runs what the documentation shows."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import tests
from quotabell import app
from tests.docs.reading import Example
from tests.docs.standins import PROGRAMS

_SOURCES = os.pathsep.join(
    [str(Path(app.__file__).parents[1]), str(Path(next(iter(tests.__path__))).parent)]
)
# What lies at the root of the reader's file system.
_ABSOLUTE = re.compile(r"(?<![\w./-])/(?=(?:etc|opt|var)/)")


class Shell:
    """Runs commands one after the other, in one shell.

    ``root``: where what is absolute lies instead; ``places``: what stands for what in a command,
    the hosts and files of its reader.
    """

    def __init__(
        self,
        root: Path,
        cwd: Path,
        places: Mapping[str, str],
        environment: Mapping[str, str],
    ) -> None:
        self._root = root
        self._cwd = cwd
        self._places = places
        self._environment = environment
        self._bin = root / "standins"
        self._bin.mkdir()
        for name in PROGRAMS:
            path = self._bin / name
            path.write_text(
                f'#!/bin/sh\nexec "{sys.executable}" -m tests.docs.standins {name} "$@"\n'
            )
            path.chmod(0o755)

    async def run(self, examples: Sequence[Example]) -> list[tuple[int, str, str]]:
        """Exit code, output and errors of each; none follows one that failed."""
        done = []
        for example in examples:
            done.append(await self.one(example.command))
            if done[-1][0]:
                break
        return done

    async def one(self, command: str) -> tuple[int, str, str]:
        """Run with the variables that the commands before it have set."""
        kept = self._root / "variables"
        script = f"set -aeo pipefail; [ ! -e {kept} ] || . {kept}; set -a\n{self.placed(command)}\n"
        script += f"export -p >{kept}"
        process = await asyncio.create_subprocess_exec(
            *("bash", "-c", script),
            cwd=self._cwd,
            env={
                "PATH": f"{self._bin}:{os.environ['PATH']}",
                "HOME": str(self._root),
                "PYTHONPATH": _SOURCES,
                "STANDINS": str(self._bin),
                "DOCS_ROOT": str(self._root),
                **self._environment,
            },
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(60):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    def placed(self, command: str) -> str:
        """With the places of the test; longer ones first."""
        for place in sorted(self._places, key=len, reverse=True):
            command = command.replace(place, self._places[place])
        return _ABSOLUTE.sub(f"{self._root}/", command)
