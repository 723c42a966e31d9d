"""The private directory of the server's socket, and the address made from it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from pathlib import Path
from urllib.parse import quote

from quotabell.errors import EmbeddedServerError
from quotabell.store.embedded_account import Account

PORT = 5432  # only a part of the socket's name: there is no TCP
_SOCKET = f".s.PGSQL.{PORT}"
_LONGEST = 107  # bytes in sockaddr_un.sun_path without its final NUL, unix(7)
_PLAIN = re.compile(r"[A-Za-z0-9/._+~@=-]+")  # Postgres and drivers read a comma as a list


def socket_directory(data_dir: Path) -> Path:
    """``data_dir/run``, or a short name in /tmp if that is too long or not plain ASCII.

    Always the same for the same (absolute) data directory and user.
    """
    inside = data_dir / "run"
    name = os.fsencode(inside / _SOCKET)
    if len(name) <= _LONGEST and _PLAIN.fullmatch(str(inside)):
        return inside
    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:12]
    return Path(f"/tmp/quotabell-{os.geteuid()}-{digest}")


def dsn(directory: Path) -> str:
    """One address for every client: asyncpg, libpq and Go's lib/pq read ``host`` alike."""
    return f"postgresql://quotabell@/quotabell?host={quote(str(directory))}&port={PORT}"


def claim(directory: Path, data_dir: Path, account: Account) -> None:
    """Create the directory for ``account`` alone, or make sure that it is just that.

    A directory outside the data directory that somebody else has put there, or whose mode
    lets others in, is refused. Raises EmbeddedServerError, OSError.
    """
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        pass
    info = directory.lstat()
    ours = stat.S_ISDIR(info.st_mode) and info.st_uid in {account.uid, os.geteuid()}
    inside = directory.parent == data_dir
    if not ours or (not inside and stat.S_IMODE(info.st_mode) & 0o077):
        raise EmbeddedServerError(
            f"{directory} must be a directory that only {account.name} can enter, and is not: "
            "somebody else may have made it; remove it, or choose a shorter data_dir"
        )
    if inside and stat.S_IMODE(info.st_mode) != 0o700:
        directory.chmod(0o700)  # a volume mounted with fsGroup comes back group-writable
    account.give(directory)


def clear(directory: Path) -> None:
    """Remove what a dead server has left. To be called when none runs on the data directory.

    A server would take the lock file for another's for as long as some process has the
    number in it: one of the same user after a reboot, or a dead one that the first process
    of a container does not reap. The directory is private, so the file is nobody else's.
    Raises OSError.
    """
    for name in (_SOCKET, f"{_SOCKET}.lock"):
        (directory / name).unlink(missing_ok=True)


def release(directory: Path, data_dir: Path) -> None:
    """Leave nothing behind in /tmp. A directory still in use stays."""
    if directory.parent == data_dir:
        return
    try:
        directory.rmdir()
    except OSError:
        return
