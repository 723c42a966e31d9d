"""The shipped units of systemd, and what systemd would do with them as far as a test can."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Self

from tests.deploy.files import DEPLOY
from tests.support.unprivileged import interpreter_of, nobody, python_environment

SYSTEMD = DEPLOY / "systemd"
SERVICES = sorted(path.name for path in SYSTEMD.glob("*.service"))
PROGRAM = "/opt/quotabell/bin/quotabell"
_NO_NEW_WRITABLE_CODE = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)  # PR_SET_MDWE, where the kernel has it
os.execv(sys.executable, [sys.executable, "-m", "quotabell", *sys.argv[1:]])
"""


def settings(unit: str) -> dict[str, list[str]]:
    """What a unit says, by key; a key may be there several times."""
    found: dict[str, list[str]] = {}
    for line in (SYSTEMD / unit).read_text("utf-8").splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def seconds(value: str) -> int:
    """Of a time span with one unit."""
    number, unit = value[: value.index(value.lstrip("0123456789"))], value.lstrip("0123456789")
    return int(number) * {"s": 1, "min": 60, "h": 3600}[unit]


class Manager:
    """The end of the socket that the daemon speaks to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))
        path.chmod(0o666)

    def heard(self, state: str) -> int:
        """How often it was said so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.said.append(self._socket.recv(4096).decode())
        return sum(message.splitlines()[0] == state for message in self.said)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


def prepare(folder: Path) -> None:
    """What the units need, below ``folder``: directories, configuration, secrets, the program."""
    user = nobody()
    for name in ("state", "etc", "credentials", "backups"):
        (folder / name).mkdir()
    settle(folder / "etc", folder / "state", folder / "credentials")
    credentials = folder / "credentials"
    for owned in (folder / "state", folder / "backups", credentials, *credentials.iterdir()):
        os.chown(owned, user.pw_uid, user.pw_gid)
    for private in (folder / "state", folder / "backups"):
        private.chmod(0o700)
    credentials.chmod(0o500)
    program = folder / "quotabell"
    program.write_text(f"#!{interpreter_of(user.pw_name)}\n{_NO_NEW_WRITABLE_CODE}")
    program.chmod(0o755)


@contextlib.asynccontextmanager
async def started(
    unit: str, folder: Path, environment: Mapping[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A unit's command as systemd starts it, but below ``folder``: its credentials, an ordinary
    user without capabilities or a way to them, no writable code, and a file system of which only
    its own directories can be written to."""
    user = nobody()
    (command,) = settings(unit)["ExecStart"]
    for place, instead in (
        (PROGRAM, "quotabell"),
        ("/etc/quotabell", "etc"),
        ("/var/backups/quotabell", "backups"),
    ):
        command = command.replace(place, str(folder / instead))
    process = await asyncio.create_subprocess_exec(
        *_mounted(folder / "state", folder / "backups"),
        *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"),
        *("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"),
        *shlex.split(command.replace("%%", "%")),
        cwd=folder / "state",
        env={
            **python_environment(),
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",  # dbmate is beside it
            **variables(),
            "HOME": "/var/lib/quotabell",
            "CREDENTIALS_DIRECTORY": str(folder / "credentials"),
            **environment,
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        umask=0o077,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def settle(etc: Path, state: Path, credentials: Path) -> None:
    """Put the shipped configuration into ``etc``, for ``state``, and what it names as secrets
    into ``credentials``, readable by nobody else."""
    text = (SYSTEMD / "quotabell.yaml").read_text("utf-8")
    (etc / "quotabell.yaml").write_text(text.replace("/var/lib/quotabell", str(state)))
    for loaded in settings("quotabell.service")["LoadCredential"]:
        name = loaded.partition(":")[0]
        (credentials / name).write_text(f"{name}-token-of-the-test\n")
        (credentials / name).chmod(0o400)


def variables() -> dict[str, str]:
    """Those of the environment file."""
    lines = (SYSTEMD / "quotabell.env").read_text("utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and line[0] != "#")


def _mounted(*writable: Path) -> list[str]:
    """A command's beginning that lets it write there only, where that is permitted."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        return []
    binds = " && ".join(shlex.join(["mount", "--bind", str(p), str(p)]) for p in writable)
    return [
        "unshare",
        "--mount",
        "sh",
        "-c",
        f'{binds} && mount -o remount,bind,ro / && exec "$@"',
        "sh",
    ]


def analyzed(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """What ``systemd-analyze`` says, without a pager and without a running systemd."""
    found = shutil.which("systemd-analyze")
    assert found, "systemd-analyze is not installed: scripts/system-packages test"
    command = [found, *arguments]
    environment = {**os.environ, "SYSTEMD_PAGER": "cat", "SYSTEMD_COLORS": "0"}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
