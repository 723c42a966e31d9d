"""The lock on a data directory, and the identity that stays with it.

One daemon at a time may use a data directory. The lock is ``flock(2)`` on the file
``instance``: the kernel drops it with the process, also after SIGKILL, so nothing has to be
cleaned up and no stale lock can exist. The file's content is a random id that outlives
every daemon; a restarted one is recognised by it.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from quotabell.errors import DataDirectoryInUse, QuotabellError

_ID = re.compile(r"[0-9a-f]{32}")


class DataDirectoryUnusable(QuotabellError):
    """The data directory cannot be used."""


class Instance:
    """A held data directory. ``id`` is its lasting identity: 32 hexadecimal digits.

    Held until ``close`` (or the end of the ``with`` block, or of the process). The lock is
    not inherited by processes that the daemon starts.
    """

    def __init__(self, data_dir: Path, fd: int, identity: str) -> None:
        self.data_dir = data_dir
        self.id = identity
        self._fd: int | None = fd

    def close(self) -> None:
        """Release the directory; harmless when repeated."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        with suppress(OSError):  # the note is a courtesy; the lock is what counts
            _pid_file(self.data_dir).unlink()
        os.close(fd)

    def __enter__(self) -> Instance:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def hold(data_dir: Path) -> Instance:
    """Create ``data_dir`` if need be and lock it for this process.

    Raises DataDirectoryInUse, naming the directory and the pid of its holder, or
    DataDirectoryUnusable if it cannot be created or written (missing rights, read-only or
    full disk).
    """
    try:
        create_data_dir(data_dir)
        fd = os.open(
            data_dir / "instance", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise _unusable(data_dir, error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        identity = _identity(fd)
        _note_holder(data_dir)
    except BlockingIOError as error:
        os.close(fd)
        raise DataDirectoryInUse(
            f"{data_dir} is in use by another daemon ({_holder(data_dir)}); "
            "stop that one or give this one a data_dir of its own"
        ) from error
    except OSError as error:
        os.close(fd)
        raise _unusable(data_dir, error) from error
    return Instance(data_dir, fd, identity)


def create_data_dir(data_dir: Path) -> None:
    """Make the directory, 0700, or 0711 for root.

    For root the embedded server runs as another user, who must pass through but not list.
    A directory that exists empty gets the same mode; one with content keeps its own, so
    that a data_dir set to some shared directory by mistake is not closed to its users.
    Raises OSError.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        with os.scandir(data_dir) as entries:
            if any(entries):
                return
    with suppress(PermissionError):  # a mounted volume may belong to somebody else
        data_dir.chmod(0o711 if os.geteuid() == 0 else 0o700)


def _identity(fd: int) -> str:
    known = os.pread(fd, 64, 0).decode("ascii", "replace").strip()
    if _ID.fullmatch(known):
        return known
    fresh = secrets.token_hex(16)
    os.ftruncate(fd, 0)
    _write_all(fd, fresh)
    return fresh


def _note_holder(data_dir: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(_pid_file(data_dir), flags, 0o600)
    try:
        _write_all(fd, str(os.getpid()))
    finally:
        os.close(fd)


def _write_all(fd: int, line: str) -> None:
    """Write a short line durably; a full disk shows here and not at some later flush."""
    os.pwrite(fd, f"{line}\n".encode("ascii"), 0)
    os.fsync(fd)


def _holder(data_dir: Path) -> str:
    try:
        pid = int(_pid_file(data_dir).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return "its pid is not known"
    return f"pid {pid}"


def _pid_file(data_dir: Path) -> Path:
    return data_dir / "instance.pid"


def _unusable(data_dir: Path, error: OSError) -> DataDirectoryUnusable:
    where = f" ({error.filename})" if error.filename not in (None, str(data_dir)) else ""
    return DataDirectoryUnusable(
        f"the data directory {data_dir} cannot be used: {error.strerror}{where}"
    )
