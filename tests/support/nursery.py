"""Daemon processes that are forked from one that has read the program already.

To read it takes most of the time of a start, of which drills make hundreds. What is forked is a
process in a session of its own like any other; only who waits for it is different.

    async with nursery() as launch:
        process = DaemonProcess(config, log_file, {}, launch=launch)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import select
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.daemon import Launch, import_path

_LOOK_EVERY = 0.05  # seconds


@dataclass(slots=True)
class Forked:
    """What a test needs of a process; ``ended`` is told by its parent."""

    pid: int
    ended: asyncio.Future[int] = field(repr=False)

    @property
    def returncode(self) -> int | None:
        return self.ended.result() if self.ended.done() else None

    async def wait(self) -> int:
        return await asyncio.shield(self.ended)

    def send_signal(self, number: int) -> None:
        if not self.ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


@contextlib.asynccontextmanager
async def nursery() -> AsyncIterator[Launch]:
    """What starts daemons; any that still runs at the end is killed."""
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.nursery"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **import_path()},
    )
    assert parent.stdin is not None
    assert parent.stdout is not None
    to, of = parent.stdin, parent.stdout
    children: dict[int, asyncio.Future[int]] = {}
    born: asyncio.Queue[Forked] = asyncio.Queue()
    one_at_a_time = asyncio.Lock()
    loop = asyncio.get_running_loop()

    async def listen() -> None:
        while line := await of.readline():
            told = json.loads(line)
            if "born" in told:
                pid = told["born"]
                children[pid] = loop.create_future()
                born.put_nowait(Forked(pid, children[pid]))
            else:
                children.pop(told["ended"]).set_result(told["code"])

    async def launch(config: Path, log_file: Path, environment: Mapping[str, str]) -> Forked:
        log_file.touch()  # it is read from now on
        order = {"config": str(config), "log": str(log_file), "environment": dict(environment)}
        async with one_at_a_time:
            to.write(json.dumps(order).encode() + b"\n")
            return await born.get()

    listening = asyncio.create_task(listen())
    try:
        yield launch
    finally:
        for pid in list(children):
            os.kill(pid, signal.SIGKILL)
        to.close()
        await parent.wait()
        await listening


def _serve() -> None:
    """Fork a daemon for each line that is read; tell what became of each; end with the input."""
    from quotabell.cli import main  # what all children share

    reader, waiting, children = sys.stdin.fileno(), b"", set[int]()
    reading = True
    while reading or children:
        ready = select.select([reader] if reading else [], [], [], _LOOK_EVERY)[0]
        if ready:
            piece = os.read(reader, 65536)
            reading = bool(piece)
            *lines, waiting = (waiting + piece).split(b"\n")
            for line in lines:
                children.add(pid := _fork(json.loads(line), main))
                print(json.dumps({"born": pid}), flush=True)
        for pid in list(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                children.remove(pid)
                code = os.waitstatus_to_exitcode(status)
                print(json.dumps({"ended": pid, "code": code}), flush=True)


def _fork(order: dict[str, Any], main: Callable[[list[str]], int]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        sink = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.environ.update(order["environment"])
        random.seed()  # else all would draw the same
        code = main(["serve", "--config", order["config"]])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
