"""Daemons for tests: in this process, or as a process of their own that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml

from quotabell import app, log
from quotabell.config import Config, load
from tests.support.push_browser import b64u

PUSH_KEY = b64u(bytes(31) + b"\x09")
SNAPSHOT = {"provider": "grok", "model": "grok-3", "tokensUsed": 1000, "tokenLimit": 10000}


def write_config(folder: Path, dsn: str, **sections: Any) -> Path:
    """A configuration file for a daemon on a free port with its own data directory.

    All on databases that outlive them have the same Web Push key, unless ``push`` names others:
    a database knows the key of its daemons. Every change is told at once unless ``alerts`` sets
    an interval.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "listen": "127.0.0.1:0",
        "data_dir": str(folder / "data"),
        "database": {"url": dsn},
    }
    content.update(sections)
    content["alerts"] = {"min_interval": 0, **sections.get("alerts", {})}
    if dsn:
        key = folder / "push.key"
        key.write_text(PUSH_KEY)
        key.chmod(0o600)
        content["push"] = {"key_files": [str(key)], **sections.get("push", {})}
    path = folder / "quotabell.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def configure(folder: Path, dsn: str, **sections: Any) -> Config:
    return load(write_config(folder, dsn, **sections), {})


@contextlib.asynccontextmanager
async def running(config: Config, **options: Any) -> AsyncIterator[app.Running]:
    """A daemon in this process, on its own task; stopped and awaited at the end."""
    stop = asyncio.Event()
    ready: asyncio.Future[app.Running] = asyncio.get_running_loop().create_future()
    daemon = asyncio.create_task(
        app.serve(
            config,
            log.configure("warning", "logfmt"),
            stop,
            on_ready=ready.set_result,
            **options,
        )
    )
    try:
        done, _ = await asyncio.wait({daemon, ready}, return_when=asyncio.FIRST_COMPLETED)
        if daemon in done:
            daemon.result()
        yield ready.result()
    finally:
        stop.set()
        await daemon


class Program(Protocol):
    """What is asked of a process, as ``asyncio.subprocess.Process`` has it."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...

    def send_signal(self, number: int, /) -> None: ...


Launch = Callable[[Path, Path, Mapping[str, str]], Awaitable[Program]]
"""Starts a daemon, given its configuration, the file for its log and more environment."""


@dataclass(slots=True)
class DaemonProcess:
    """A daemon as a process. Its log goes to a file that tests may read."""

    config: Path
    log_file: Path
    environment: Mapping[str, str]
    process: Program | None = None
    url: str = ""
    module: str = "quotabell"  # that is run
    launch: Launch | None = None  # None: a process of its own from the very first

    async def start(self, timeout: float = 120.0) -> None:
        offset = self.log_file.stat().st_size if self.log_file.exists() else 0
        launch = self.launch or self._launch
        self.process = await launch(self.config, self.log_file, self.environment)
        async with asyncio.timeout(timeout):
            while True:
                text = self.log_file.read_bytes()[offset:].decode()
                if found := re.search(r"quotabell is ready.*?(https?://[^\s\"]+)", text):
                    self.url = found[1]
                    return
                if self.process.returncode is not None:
                    raise AssertionError(f"exit {self.process.returncode}:\n{text}")
                await asyncio.sleep(0.02)

    async def _launch(
        self, config: Path, log_file: Path, environment: Mapping[str, str]
    ) -> Program:
        with log_file.open("ab") as sink:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self.module, "serve", "--config", str(config)),
                stdout=sink,
                stderr=sink,
                env={**os.environ, **import_path(), **environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def send(self, number: int) -> None:
        """Send a signal to it, if it runs."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    async def end(self, number: int = signal.SIGTERM, timeout: float = 20.0) -> int:
        """Send a signal and wait; the exit code."""
        assert self.process is not None
        self.send(number)
        async with asyncio.timeout(timeout):
            return await self.process.wait()


def import_path() -> dict[str, str]:
    """The environment with which a process finds the program under test."""
    source = str(Path(app.__file__).parents[1])
    return {"PYTHONPATH": source + os.pathsep + os.environ.get("PYTHONPATH", "")}


@contextlib.asynccontextmanager
async def process(
    config: Path,
    environment: Mapping[str, str] | None = None,
    *,
    start: bool = True,
    module: str = "quotabell",
    launch: Launch | None = None,
) -> AsyncIterator[DaemonProcess]:
    """A daemon process; killed at the end if it still runs."""
    daemon = DaemonProcess(
        config, config.with_suffix(".log"), environment or {}, module=module, launch=launch
    )
    try:
        if start:
            await daemon.start()
        yield daemon
    finally:
        if daemon.process is not None and daemon.process.returncode is None:
            await daemon.end(signal.SIGKILL)
