"""The server's files: creating the cluster and keeping its configuration ours.

As root, everything here is written into a directory that belongs to the less trusted
server user. So files are replaced by rename and never opened for writing in place, and
links are not followed: that user cannot make root write elsewhere.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
import subprocess
from pathlib import Path

from quotabell.errors import EmbeddedServerError
from quotabell.store.embedded_account import Account
from quotabell.store.embedded_binaries import Binaries, run_as
from quotabell.store.embedded_memory import shared_buffers
from quotabell.store.embedded_socket import PORT

_MARK = "include 'quotabell.conf'"
_MAX_FILE = 1 << 20  # bytes; postgresql.conf has 32 KiB

_SETTINGS = """\
# Rewritten at every start of the daemon. Own settings: postgresql.conf below the include.
listen_addresses = ''
port = {port}
unix_socket_directories = '{socket}'
unix_socket_permissions = 0700
max_connections = 60

{tuning}

# The daemon owns the log file and keeps it short. Terse: details of an error quote rows,
# and rows hold secrets of subscriptions.
logging_collector = off
log_destination = 'stderr'
log_error_verbosity = terse
log_timezone = 'UTC'
timezone = 'UTC'
"""


def tuning() -> dict[str, str]:
    """The settings that decide how durable and how fast the server is, on this machine."""
    buffers = shared_buffers()
    return {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "shared_buffers": f"{buffers}MB",
        # After a checkpoint every page is logged whole with its first change: with checkpoints
        # sooner than most pages changed again, that is nearly all that is logged.
        "max_wal_size": f"{max(512, 2 * buffers)}MB",
    }


_HBA = "# Rewritten at every start of the daemon.\nlocal all all peer map=quotabell\n"


def create_cluster(pgdata: Path, binaries: Binaries, account: Account) -> None:
    """Run initdb, about a second. The cluster appears under its name when it is complete.

    A half-made one of an earlier, interrupted attempt is removed. Raises
    EmbeddedServerError, OSError.
    """
    for rest in pgdata.parent.glob(f"{pgdata.name}.new-*"):
        shutil.rmtree(rest, ignore_errors=True)
    draft = pgdata.with_name(f"{pgdata.name}.new-{secrets.token_hex(4)}")
    draft.mkdir(mode=0o700)
    account.give(draft)
    try:
        _initdb(draft, binaries, account)
        draft.rename(pgdata)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _sync(pgdata.parent)


def _initdb(pgdata: Path, binaries: Binaries, account: Account) -> None:
    command = [
        binaries.program("initdb"),
        f"--pgdata={pgdata}",
        "--username=quotabell",
        "--auth-local=peer",
        "--auth-host=reject",
        "--encoding=UTF8",
        "--locale=C",  # the C library's; text is compared by the built-in provider, so that
        "--locale-provider=builtin",  # an upgrade of the operating system spoils no index
        "--builtin-locale=C.UTF-8",
    ]
    try:
        result = run_as(account, command, timeout=120)
    except subprocess.TimeoutExpired as error:
        raise EmbeddedServerError(f"initdb did not end within {error.timeout} s") from error
    if result.returncode != 0:
        said = "\n".join(f"{result.stdout}{result.stderr}".strip().splitlines()[-5:])
        raise EmbeddedServerError(f"initdb could not create {pgdata}: {said}")


def check_cluster(pgdata: Path, binaries: Binaries, account: Account) -> None:
    """Raises EmbeddedServerError if another major version or another user made it."""
    owner = pgdata.stat().st_uid
    if owner != account.uid:
        raise EmbeddedServerError(
            f"{pgdata} belongs to user id {owner}, and the server would run as {account.name} "
            f"({account.uid}): start the daemon as the user who started it first"
        )
    version = (read_text(pgdata / "PG_VERSION") or "").strip()
    if version != binaries.major:
        raise EmbeddedServerError(
            f"{pgdata} was made by Postgres {version or 'of an unknown version'}, and the "
            f"installed binaries are Postgres {binaries.major}: dump it with the old version's "
            "pg_dump, move the directory away, start and restore; or use pg_upgrade; or "
            f"install the version of quotabell[embedded] that brought Postgres {version}"
        )
    pgdata.chmod(0o700)  # Postgres refuses a group-writable one, as volume mounts make it


def configure(pgdata: Path, socket: Path, account: Account) -> bool:
    """Write our settings and who may connect; True if that changes anything.

    The server's own user and root are the database role ``quotabell``; nobody else gets in.
    Raises OSError.
    """
    tuned = "\n".join(f"{name} = {value}" for name, value in tuning().items())
    users = dict.fromkeys(("root", account.name))
    mapped = "".join(f'quotabell "{_doubled(user)}" quotabell\n' for user in users)
    wanted = {
        "quotabell.conf": _SETTINGS.format(port=PORT, socket=socket, tuning=tuned),
        "pg_hba.conf": _HBA,
        "pg_ident.conf": f"# Rewritten at every start of the daemon.\n{mapped}",
    }
    main = read_text(pgdata / "postgresql.conf") or ""
    if _MARK not in main.splitlines():
        wanted["postgresql.conf"] = f"{main.rstrip()}\n\n{_MARK}\n".lstrip()
    changed = {name: text for name, text in wanted.items() if read_text(pgdata / name) != text}
    for name, text in changed.items():
        _replace(pgdata, name, text, account)
    return bool(changed)


def _doubled(text: str) -> str:
    return text.replace('"', '""')


def read_text(path: Path) -> str | None:
    """A small regular file as text; None if there is none. Raises OSError, also for a link."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return file.read(_MAX_FILE).decode("utf-8", "replace")


def _replace(folder: Path, name: str, text: str, account: Account) -> None:
    draft = folder / f".{name}.{secrets.token_hex(4)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(draft, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
        account.give(file.fileno())
    draft.rename(folder / name)
    _sync(folder)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
