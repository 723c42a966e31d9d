"""The operating system user that the embedded server runs as."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from quotabell.errors import EmbeddedServerError
from quotabell.log import Logger

_SERVER_USER = "quotabell"


@dataclass(frozen=True, slots=True)
class Account:
    """Who the server is. ``foreign``: another user than the daemon, which then is root."""

    name: str
    uid: int
    gid: int
    foreign: bool

    def give(self, path: Path | int) -> None:
        """Hand a file or directory of the daemon (path or descriptor) to this user."""
        if not self.foreign:
            return
        if isinstance(path, int):
            os.fchown(path, self.uid, self.gid)
        else:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def server_account(log: Logger) -> Account:
    """The daemon's own user, or ``quotabell`` if the daemon is root: Postgres refuses root.

    Creates the system user when missing, and says so. Blocks for some milliseconds.
    Raises EmbeddedServerError.
    """
    uid = os.geteuid()
    if uid != 0:
        try:
            entry = pwd.getpwuid(uid)
        except KeyError as error:
            raise EmbeddedServerError(
                f"user id {uid} has no name in /etc/passwd, and Postgres refuses to run "
                "without; add an entry for it, or set DATABASE_URL to a Postgres of your own"
            ) from error
        return Account(entry.pw_name, uid, os.getegid(), foreign=False)
    entry = _existing_user() or _created_user(log)
    if entry.pw_uid == 0:
        raise EmbeddedServerError(f"the user {_SERVER_USER} is root, which Postgres refuses")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, foreign=True)


def _existing_user() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(_SERVER_USER)
    except KeyError:
        return None


def _created_user(log: Logger) -> pwd.struct_passwd:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin"]
    advice = (
        f"the daemon runs as root and Postgres needs an ordinary user: create one named "
        f"{_SERVER_USER}, start the daemon as an ordinary user, or set DATABASE_URL"
    )
    program = shutil.which("useradd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if program is None:
        raise EmbeddedServerError(f"{advice} (useradd is not there)")
    result = subprocess.run(
        [program, *command[1:], _SERVER_USER],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    entry = _existing_user()  # also if another daemon has created it meanwhile
    if entry is None:
        raise EmbeddedServerError(f"{advice} (useradd said: {result.stderr.strip()})")
    log.info("system user created for the embedded Postgres", user=_SERVER_USER, uid=entry.pw_uid)
    return entry


def blocking_directory(path: Path, account: Account) -> Path | None:
    """The first directory on the way into ``path`` that the user may not enter, if any.

    Judged by the mode bits; a directory with an access control list is given the benefit
    of the doubt. Raises OSError.
    """
    for folder in (*reversed(path.parents), path):
        if not _may_enter(folder.stat(), account) and not _has_acl(folder):
            return folder
    return None


def _may_enter(info: os.stat_result, account: Account) -> bool:
    if info.st_uid == account.uid:
        return bool(info.st_mode & stat.S_IXUSR)
    if info.st_gid == account.gid:
        return bool(info.st_mode & stat.S_IXGRP)
    return bool(info.st_mode & stat.S_IXOTH)


def _has_acl(folder: Path) -> bool:
    try:
        return "system.posix_acl_access" in os.listxattr(folder)
    except OSError:  # a file system without extended attributes
        return False
