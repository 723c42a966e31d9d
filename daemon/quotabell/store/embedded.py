"""The embedded Postgres server: a database without anything to install or to configure.

Everything lives in the data directory: ``postgres/`` (the cluster), ``postgres.log``,
``run/`` (the socket) and, if the server's user cannot reach the binaries, ``runtime/``.
The server listens on a Unix socket in a private directory and believes the kernel (peer
authentication) that a client is root or its own user; there is no TCP and no password.

The server outlives a daemon that is killed. The next one finds it and takes it over.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from quotabell.errors import EmbeddedServerError
from quotabell.log import Logger
from quotabell.store import embedded_cluster as cluster
from quotabell.store import embedded_socket as socket
from quotabell.store.embedded_account import Account, blocking_directory, server_account
from quotabell.store.embedded_binaries import usable_binaries
from quotabell.store.embedded_log import ServerLog
from quotabell.store.embedded_process import Server, find_server, read_pid_file
from quotabell.store.instance import create_data_dir

_POLL = 0.01  # s between looks at a server that is coming up
_READY_WITHIN = 600.0  # s; recovering a large write-ahead log after a crash takes its time
_ATTEMPTS = (0.1, 0.2, 0.4, 0.8, 1.6)  # s of pause after a server that ended while starting
_LONGEST_PAUSE = 5.0  # s between restarts of a server that keeps dying
_LIVED_WELL = 30.0  # s after which a death is no longer one of a series
_LOG_CHECK = 15.0  # s
_FAST = 20.0  # s for a fast shutdown, with its checkpoint
_HANGING = 4.0  # s for each where it does not answer
_IMMEDIATE = 10.0  # s for an immediate one; Postgres itself allows its children 5

_NOT_NOW = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
)


@dataclass(frozen=True, slots=True)
class _Plan:
    account: Account
    command: list[str]


class _Ended(Exception):
    """The server ended before it was ready."""


class EmbeddedPostgres:
    """The server of one data directory, which the caller holds (``instance.hold``).

    ``dsn`` is its address for asyncpg, libpq and dbmate, known before the start.
    """

    def __init__(self, data_dir: Path, log: Logger) -> None:
        self._data_dir = Path(os.path.realpath(data_dir))
        self._pgdata = self._data_dir / "postgres"
        self._socket = socket.socket_directory(self._data_dir)
        self._server_log = ServerLog(self._data_dir / "postgres.log")
        self._log = log
        self._plan: _Plan | None = None
        self._server: Server | None = None
        self._wanted = False  # between start and stop
        self._settings_changed = False  # a server that already runs has read other ones
        self.dsn = socket.dsn(self._socket)

    @property
    def pid(self) -> int | None:
        """The server's process id; None before the start, after the stop and while down."""
        return self._server.pid if self._server else None

    async def start(self) -> None:
        """Bring the server up and wait until it answers, making the cluster the first time.

        A server left behind by a killed daemon is adopted. Raises EmbeddedServerError; no
        server is left running then.
        """
        self._wanted = True
        try:
            self._plan = await asyncio.to_thread(self._prepare)
            await self._bring_up(self._plan)
        except OSError as error:
            await self.stop()
            raise EmbeddedServerError(f"the embedded Postgres cannot start: {error}") from error
        except BaseException:  # also cancelled: the daemon is told to end while it starts
            await self.stop()
            raise

    async def supervise(self) -> None:
        """Restart the server whenever it dies, until cancelled. To be run after ``start``.

        The first restart is immediate, a series of them ever slower, up to 5 s apart.
        """
        pause, since = 0.0, time.monotonic()
        while True:
            await self._death()
            if time.monotonic() - since > _LIVED_WELL:
                pause = 0.0
            self._log.error("embedded Postgres died; it is restarted", pause=pause)
            await asyncio.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 2 or 0.25)
            await self._restart()
            since = time.monotonic()

    async def stop(self, fast: float = _FAST, immediate: float = _IMMEDIATE) -> None:
        """Shut the server down, bounded; harmless when repeated or never started.

        Fast first (clients are cut off, everything is written), after ``fast`` seconds
        immediate (the next start recovers), after ``immediate`` more seconds SIGKILL. Sooner if it
        takes no connections any more: the daemon has to end before it is killed itself.
        """
        self._wanted = False
        if self._server is None:
            return
        if max(fast, immediate) > _HANGING and not await self._listens():
            fast, immediate = min(fast, _HANGING), min(immediate, _HANGING)
        await self._end(self._server, fast, immediate)
        await asyncio.to_thread(socket.release, self._socket, self._data_dir)
        self._log.info("embedded Postgres stopped")

    def _prepare(self) -> _Plan:
        create_data_dir(self._data_dir)
        account = server_account(self._log)
        blocking = blocking_directory(self._data_dir, account)
        if blocking is not None:
            raise EmbeddedServerError(
                f"Postgres runs as the user {account.name}, who cannot pass through {blocking} to "
                f"{self._data_dir}; choose another place, such as data_dir: /var/lib/quotabell"
            )
        binaries = usable_binaries(self._data_dir, account)
        if not self._pgdata.exists():
            cluster.create_cluster(self._pgdata, binaries, account)
        cluster.check_cluster(self._pgdata, binaries, account)
        socket.claim(self._socket, self._data_dir, account)
        self._settings_changed = cluster.configure(self._pgdata, self._socket, account)
        self._server_log.shorten()
        return _Plan(account, [binaries.program("postgres"), "-D", str(self._pgdata)])

    async def _bring_up(self, plan: _Plan) -> None:
        """Adopt or start a server, and wait until it answers.

        Tried several times: for a moment after its death a server's shared memory still
        has users, and one started by a daemon killed just now has written no pid file yet.
        """
        begun, offset = time.monotonic(), self._server_log.size()
        for pause in (*_ATTEMPTS, None):
            adopted = await self._adopt(plan)
            if not self._wanted:
                break
            if not adopted:
                self._launch(plan)
            try:
                await self._until_ready()
            except _Ended:
                self._forget()
                if pause is None or not self._wanted:
                    break
                await asyncio.sleep(pause)
                continue
            seconds = round(time.monotonic() - begun, 3)
            how = "found running" if adopted else "started"
            self._log.info(f"embedded Postgres {how}", pid=self.pid, seconds=seconds)
            return
        raise EmbeddedServerError(
            f"the embedded Postgres ended while starting; {self._server_log.path} says:\n"
            f"{self._server_log.said_since(offset)}"
        )

    async def _adopt(self, plan: _Plan) -> bool:
        """Take over a running server if it is what would be started; else end it."""
        server = find_server(self._pgdata, plan.account)
        if server is None:
            return False
        self._server = server
        record = read_pid_file(self._pgdata)
        if (
            record is not None
            and record.socket == str(self._socket)
            and record.status != "stopping"
            and server.command == plan.command
            and not self._settings_changed
        ):
            return True
        self._log.info("embedded Postgres runs outdated or is ending: replaced", pid=server.pid)
        await self._end(server, _FAST, _IMMEDIATE)
        return False

    def _launch(self, plan: _Plan) -> None:
        socket.clear(self._socket)
        log_file = self._server_log.open()
        try:
            self._server = Server.launch(plan.command, log_file, plan.account)
        finally:
            os.close(log_file)
        self._settings_changed = False

    async def _until_ready(self) -> None:
        server = self._server
        assert server is not None
        begun = notice = time.monotonic()
        while not await server.ended(within=_POLL):
            record = read_pid_file(self._pgdata)
            if record is not None and record.pid == server.pid and record.status == "ready":
                if await self._answers():
                    return
            now = time.monotonic()
            if now - begun > _READY_WITHIN:
                raise EmbeddedServerError(
                    f"the embedded Postgres was not ready within {_READY_WITHIN:.0f} s; "
                    f"see {self._server_log.path}"
                )
            if now - notice > 10.0:
                notice = now
                self._log.info("embedded Postgres is still starting, probably recovering")
        raise _Ended

    async def _answers(self) -> bool:
        try:
            try:
                connection = await asyncpg.connect(self.dsn, timeout=5)
            except asyncpg.InvalidCatalogNameError:
                connection = await asyncpg.connect(self.dsn, database="postgres", timeout=5)
                await connection.execute("CREATE DATABASE quotabell")
            await connection.close(timeout=5)
        except _NOT_NOW:
            return False
        except asyncpg.PostgresError as error:
            raise EmbeddedServerError(f"the embedded Postgres refuses: {error}") from error
        return True

    async def _listens(self) -> bool:
        """Whether it still takes connections, or itself refuses them: full, or about to end."""
        try:
            connection = await asyncpg.connect(self.dsn, timeout=_HANGING)
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError):
            return False
        except asyncpg.PostgresError:
            return True
        connection.terminate()
        return True

    async def _death(self) -> None:
        """Wait until the server ends by itself, meanwhile keeping its log short."""
        while True:
            if not self._wanted:
                await asyncio.sleep(1.0)  # stopped on purpose
            elif self._server is None:
                return
            elif await self._server.ended(within=_LOG_CHECK):
                if self._wanted:
                    self._forget()
            else:
                await self._shorten_log()

    async def _shorten_log(self) -> None:
        try:
            await asyncio.to_thread(self._server_log.shorten)
        except OSError as error:
            self._log.warning("the log of Postgres cannot be shortened", error=str(error))

    async def _restart(self) -> None:
        assert self._plan is not None
        if not self._wanted:
            return
        try:
            await self._bring_up(self._plan)
        except (EmbeddedServerError, OSError) as error:
            self._log.error("embedded Postgres cannot be restarted", error=str(error))

    async def _end(self, server: Server, fast: float, immediate: float) -> None:
        steps = ((signal.SIGINT, fast), (signal.SIGQUIT, immediate), (signal.SIGKILL, 5.0))
        for number, patience in steps:
            server.send(number)
            if await server.ended(within=patience):
                break
            self._log.warning("embedded Postgres does not end", sent=number.name, waited=patience)
        self._forget()

    def _forget(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
