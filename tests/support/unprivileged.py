"""Other operating system users: directories they can reach, and programs run as them."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

import quotabell

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="acting as other users takes root")


@contextmanager
def reachable_directory() -> Iterator[Path]:
    """A fresh directory that every user can pass through.

    pytest's own ones are closed to others, and so is their parent.
    """
    folder = Path(tempfile.mkdtemp(prefix="qb-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def nobody() -> pwd.struct_passwd:
    """An ordinary user with no rights anywhere."""
    return pwd.getpwnam("nobody")


@cache
def interpreter_of(user: str) -> str:
    """A Python of this version that ``user`` can run with the libraries of this one.

    Skips the test if there is none (this interpreter lies below somebody's home directory
    and the system has no Python of the same version); under CI that is a failure.
    """
    name = f"python3.{sys.version_info.minor}"
    candidates = (sys.executable, shutil.which(name, path="/usr/local/bin:/usr/bin"))
    for candidate in candidates:
        if candidate and _runs(candidate, user):
            return candidate
    message = f"{user} can run no {name} with the libraries of {sys.executable}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def _runs(program: str, user: str) -> bool:
    code = "import asyncpg, structlog, quotabell.errors"
    try:
        result = subprocess.run(
            [program, "-c", code], env=python_environment(), cwd="/", check=False,
            capture_output=True, timeout=30, user=user, group=_group(user), extra_groups=[],
        )  # fmt: skip
    except OSError:
        return False
    return result.returncode == 0


def python_environment() -> dict[str, str]:
    """For a Python that imports what this process can import."""
    source = Path(quotabell.__file__).parent.parent
    paths = [str(source), *(p for p in sys.path if p.endswith("site-packages"))]
    return {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(paths), "HOME": "/nonexistent"}


async def python_process(
    code: str, *arguments: str, user: str | None = None
) -> subprocess.Popen[str]:
    """Python running ``code`` in a session of its own, with pipes; as ``user`` if given."""
    return await asyncio.to_thread(_python_process, code, arguments, user)


def _python_process(
    code: str, arguments: tuple[str, ...], user: str | None
) -> subprocess.Popen[str]:
    program = sys.executable if user is None else interpreter_of(user)
    return subprocess.Popen(
        [program, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=python_environment(),
        cwd="/",
        text=True,
        start_new_session=True,
        user=user,
        group=None if user is None else _group(user),
        extra_groups=None if user is None else [],
    )


def _group(user: str) -> int:
    return pwd.getpwnam(user).pw_gid


def modes(*paths: Path) -> dict[Path, tuple[int, int, int]]:
    """Mode, owner and group of the paths and of every directory above them."""
    every = {above for path in paths for above in (path, *path.parents)}
    return {
        path: (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid)
        for path in every
        for info in [path.lstat()]
    }
