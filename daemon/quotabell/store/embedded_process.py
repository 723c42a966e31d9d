"""The server's process: started by this daemon, or found running.

Both are watched through a pidfd, pidfd_open(2): it tells of the end of a process that is
no child of ours, and it cannot come to mean another process when the number is used again.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from quotabell.store.embedded_account import Account
from quotabell.store.embedded_binaries import ENVIRONMENT
from quotabell.store.embedded_cluster import read_text


@dataclass(frozen=True, slots=True)
class PidFile:
    """What the server says of itself in ``postmaster.pid``; empty what is not there yet."""

    pid: int
    socket: str
    status: str  # starting, ready, stopping


class Server:
    """A running postmaster."""

    def __init__(self, pidfd: int, pid: int, command: list[str]) -> None:
        self.pid = pid
        self.command = command
        self._pidfd: int | None = pidfd  # None: closed
        self._child: subprocess.Popen[bytes] | None = None

    @classmethod
    def launch(cls, command: list[str], log_file: int, account: Account) -> Server:
        """Start the server in a session of its own.

        So neither Ctrl-C in the daemon's terminal nor the daemon's end reaches it. Raises
        OSError.
        """
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log_file,
            stderr=log_file,
            cwd="/",
            env=ENVIRONMENT,
            umask=0o077,
            start_new_session=True,
            user=account.uid if account.foreign else None,
            group=account.gid if account.foreign else None,
            extra_groups=[] if account.foreign else None,
        )
        server = cls(os.pidfd_open(child.pid), child.pid, command)
        server._child = child
        return server

    async def ended(self, within: float) -> bool:
        """Wait up to ``within`` seconds for the process to end; False if it still runs."""
        if self._pidfd is None:
            return True
        loop = asyncio.get_running_loop()
        end = asyncio.Event()
        fd = os.dup(self._pidfd)  # the loop knows one reader per descriptor
        loop.add_reader(fd, end.set)
        try:
            async with asyncio.timeout(within):
                await end.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(fd)
            os.close(fd)
        if self._child is not None:
            self._child.wait()  # has ended: this only takes its exit status
        return True

    def send(self, number: signal.Signals) -> None:
        """Signal the process; nothing if it has ended."""
        if self._pidfd is None:
            return
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return

    def close(self) -> None:
        """Forget the process. It is not ended by that."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def find_server(pgdata: Path, account: Account) -> Server | None:
    """The server that runs on this data directory, if any.

    A ``postmaster.pid`` whose number belongs to something else (after a reboot, in a
    restarted container, or to a dead process that nobody reaps) is removed: the server itself
    would take that for a running server and refuse to start. Raises OSError.
    """
    record = read_pid_file(pgdata)
    if record is None:
        return None
    try:
        pidfd = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return None
    except OSError:  # the number of a thread
        pidfd = None
    if pidfd is not None:
        command = _command(record.pid)
        if _is_server_on(command, pgdata) and _user(record.pid) == account.uid:
            return Server(pidfd, record.pid, command)
        os.close(pidfd)
    (pgdata / "postmaster.pid").unlink(missing_ok=True)
    return None


def read_pid_file(pgdata: Path) -> PidFile | None:
    """``postmaster.pid``: one value a line, in the order of Postgres' ``pidfile.h``."""
    lines = (read_text(pgdata / "postmaster.pid") or "").splitlines()
    lines += [""] * (8 - len(lines))
    if not re.fullmatch(r"[0-9]{1,9}", lines[0].strip()):
        return None
    return PidFile(pid=int(lines[0]), socket=lines[4].strip(), status=lines[7].strip())


def _command(pid: int) -> list[str]:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [os.fsdecode(part) for part in raw.split(b"\0")[:-1]]


def _is_server_on(command: list[str], pgdata: Path) -> bool:
    if not command or os.path.basename(command[0]) != "postgres" or "-D" not in command[:-1]:
        return False
    return os.path.realpath(command[command.index("-D") + 1]) == os.path.realpath(pgdata)


def _user(pid: int) -> int | None:
    """The effective user id of a process, from ``/proc/<pid>/status``."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[2])
    return None
