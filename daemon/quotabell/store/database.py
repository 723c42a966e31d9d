"""Connections to Postgres, and its errors in the words of the product."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import time
from typing import Any, TypeAlias, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from quotabell.errors import Busy, Conflict, Refused, Unavailable
from quotabell.log import Logger
from quotabell.ticks import ticks

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Row = TypeVar("Row")

STATEMENT_TIMEOUT = 4.0  # seconds; a report has 8 in all, exporters give up at 10
CONNECT_TIMEOUT = 3.0
PATIENCE = 20.0  # of who reads a stream in the background; nobody waits for each part of it
AT_A_TIME = 5_000  # rows of a stream that come at a time
_AT_ONCE = 1_000  # of these, for the event loop: some milliseconds
# After a failover a name may lead elsewhere, where connections that are open do not follow.
_PROBE = "select clock_timestamp(), current_setting('transaction_read_only')::boolean"
_READ_ONLY = "it takes no writes: read-only, or a standby"
_PROBE_UP = 1.0
_PROBE_DOWN = 0.25
_REFUSING_CLASSES = ("22", "23")  # data exceptions, constraint violations
_LATE = "database: no answer in time"
_LOCKED = "55P03"  # lock not available
# Of ingest: who holds a row must not hold up those who do not want it. Longer than the second
# after which the server looks for deadlocks.
LOCK_TIMEOUT = "1500ms"
# A transaction that its daemon has forgotten, or whose host is gone, holds rows no longer.
_IDLE = "idle_in_transaction_session_timeout"
# Compiling a statement takes a second, which none of these statements would win back.
SESSION = {"application_name": "quotabell", _IDLE: "10s", "jit": "off"}
_SET_IDLE = f"set local {_IDLE} = '{SESSION[_IDLE]}'"
_REPEATABLE = ("40001", "40P01")  # serialization failure, deadlock


class Undone(Exception):
    """Raised within a transaction to undo it, by whoever then catches it."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn what the driver raises into Refused, Conflict or Unavailable.

    Refused: the database, or the driver while encoding, will not have a value (SQLSTATE
    classes 22 and 23). Conflict: the transaction may be repeated as it is. Unavailable:
    everything else; whether the statement took effect is then unknown.
    """
    try:
        yield
    except asyncpg.PostgresError as error:
        state = error.sqlstate or ""
        if state[:2] in _REFUSING_CLASSES:
            raise Refused(_first_line(error)) from error
        if state == _LOCKED:
            raise Busy(_first_line(error)) from error
        if state in _REPEATABLE:
            raise Conflict(_first_line(error)) from error
        raise Unavailable(f"database: {_first_line(error)} ({state})") from error
    except (asyncpg.exceptions.DataError, UnicodeEncodeError) as error:
        raise Refused(_first_line(error)) from error
    except asyncpg.InterfaceError as error:
        # The client library's own DataError (a value it cannot encode) is one of these.
        if isinstance(error, ValueError):
            raise Refused(_first_line(error)) from error
        if isinstance(error.__context__, TimeoutError):  # its transaction was cut for it
            raise Unavailable(_LATE) from error
        raise Unavailable(f"database: {_first_line(error)}") from error
    except TimeoutError as error:
        raise Unavailable(_LATE) from error
    except (OSError, asyncpg.InternalClientError) as error:
        raise Unavailable(f"database: {type(error).__name__}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


@dataclass(slots=True)
class DatabaseClock:
    """The database's time, estimated between measurements by the local `ticks`.

    A replica whose wall clock is off thus still judges times as the others do.
    """

    _base: datetime | None = None
    _at: float = 0.0
    offset: float = 0.0  # seconds the local wall clock is ahead of the database's

    def measured(self, database: datetime, sent: float, received: float) -> None:
        """``sent`` and ``received`` are ticks() around the query."""
        self._base = database
        self._at = (sent + received) / 2
        self.offset = time() - (ticks() - self._at) - database.timestamp()

    def now(self) -> datetime:
        if self._base is None:
            return datetime.now(UTC)
        return self._base + timedelta(seconds=ticks() - self._at)


class Database:
    """Two pools to one Postgres: a small one that only ingest uses, and one for the rest.

    ``up`` tells whether the last probe succeeded, ``silent`` whether it had no answer at all;
    `watch` keeps them true to life.
    """

    def __init__(self, dsn: str, *, pool_size: int, prepared_statements: bool, log: Logger) -> None:
        self._dsn = dsn
        self._size = pool_size
        self._cache = 256 if prepared_statements else 0
        self._log = log
        self._stack = contextlib.AsyncExitStack()
        self._changed = asyncio.Event()
        self.clock = DatabaseClock()
        self.up = self.silent = False
        self._said_up = False  # by the log
        self.ingest: Pool
        self.pool: Pool

    async def open(self) -> None:
        """Connect; raises Unavailable."""
        with translated():
            self.ingest = await self._pool(2, STATEMENT_TIMEOUT, lock_timeout=LOCK_TIMEOUT)
            self.pool = await self._pool(self._size, 2 * STATEMENT_TIMEOUT)
        for pool in (self.ingest, self.pool):
            async with self.connection(pool):
                pass
        await self.probe()

    async def _pool(self, size: int, timeout: float, **settings: str) -> Pool:
        pool: Pool = await asyncpg.create_pool(
            self._dsn,
            # No connections are kept ready by the pool itself: its way to restore them fills the
            # log during an outage.
            min_size=0,
            max_size=size,
            command_timeout=timeout,
            timeout=CONNECT_TIMEOUT,
            statement_cache_size=self._cache,
            # One statement is longer than the library would keep prepared by itself.
            max_cacheable_statement_size=self._cache and 1 << 16,
            # Sessions are never altered outside a transaction, so there is nothing to reset,
            # and a round trip saved on every batch.
            reset=_nothing,
            # A transaction pooler refuses settings of a session.
            server_settings=SESSION | settings if self._cache else None,
        )
        self._stack.callback(pool.terminate)
        return pool

    def abandon(self) -> None:
        """Cut all connections, for good: whoever waits for an answer has Unavailable at once."""
        for pool in (self.ingest, self.pool):
            pool.terminate()

    async def close(self) -> None:
        """Close what is idle, then cut what is left after a second."""
        if hasattr(self, "pool"):
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1.0):
                    await asyncio.gather(self.ingest.close(), self.pool.close())
        await self._stack.aclose()

    @contextlib.asynccontextmanager
    async def connection(self, pool: Pool | None = None) -> AsyncIterator[Connection]:
        """A pooled connection, errors translated; one that timed out is thrown away."""
        pool = pool or self.pool
        with translated():
            connection = await pool.acquire(timeout=CONNECT_TIMEOUT)
            try:
                yield connection
            except TimeoutError:
                connection.terminate()
                raise
            finally:
                with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
                    await pool.release(connection, timeout=CONNECT_TIMEOUT)

    @contextlib.asynccontextmanager
    async def transaction(self, pool: Pool | None = None) -> AsyncIterator[Connection]:
        """A transaction, rolled back on any error."""
        async with self.connection(pool) as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                if not self._cache:
                    await connection.execute(_SET_IDLE)
                yield connection
            except TimeoutError:
                raise  # and have it thrown away: a ROLLBACK would wait for the same silent server
            except BaseException:
                # Where it is closed, what closed it is to be told.
                with contextlib.suppress(asyncpg.InterfaceError):
                    await transaction.rollback()
                raise
            await transaction.commit()

    @contextlib.asynccontextmanager
    async def acting_for(self, user: str | None) -> AsyncIterator[Connection]:
        """A transaction that sees what ``user`` may see; None: everything.

        Steps down to the role quotabell_reader with the user as the subject of the claims, so
        that row level security holds even if a query forgets its own condition.
        """
        async with self.transaction() as connection:
            if user is not None:
                await connection.execute("set local role quotabell_reader")
                await connection.execute(
                    "select set_config('request.jwt.claims', $1, true)", json.dumps({"sub": user})
                )
            yield connection

    async def fetch(self, query: str, *args: Any) -> list[asyncpg.Record]:
        async with self.connection() as connection:
            return await connection.fetch(query, *args)

    async def stream(
        self, name: str, query: str, make: Callable[[asyncpg.Record], Row]
    ) -> AsyncGenerator[list[Row], None]:
        """What ``make`` gives of the rows of a query as of one moment, some at a time.

        However many there are, no statement takes long and few are held in memory. ``name`` is
        the cursor's: always the same query has it. A transaction is open until the last are
        taken; who wants no more closes it (`contextlib.aclosing`). Of few rows one statement
        gives all.
        """
        async with self.connection() as connection:
            few = await connection.fetch(f"{query}\nlimit {AT_A_TIME}", timeout=PATIENCE)
        if len(few) < AT_A_TIME:
            for start in range(0, len(few), _AT_ONCE):
                yield [make(row) for row in few[start : start + _AT_ONCE]]
            return
        async with self.transaction() as connection:
            # All will be read, so a plan that begins soon and takes longer is none.
            whole = f"set local cursor_tuple_fraction = 1; declare {name} no scroll cursor for "
            await connection.execute(whole + query, timeout=PATIENCE)
            more = f"fetch {AT_A_TIME} from {name}"
            while rows := await connection.fetch(more, timeout=PATIENCE):
                for start in range(0, len(rows), _AT_ONCE):
                    yield [make(row) for row in rows[start : start + _AT_ONCE]]

    async def execute(self, query: str, *args: Any) -> str:
        async with self.connection() as connection:
            return await connection.execute(query, *args)

    async def probe(self) -> None:
        """Ask the database for its time; sets ``up`` and the clock.

        Through the pool of ingest, whose second connection is kept for this: reads that
        hang must not make the database look lost. One that takes no writes counts as away.
        """
        sent = ticks()
        try:
            async with self.connection(self.ingest) as connection:
                row = await connection.fetchrow(_PROBE, timeout=2.0)
        except Unavailable as error:
            self.silent = str(error) == _LATE
            self._turn(False, str(error))
            return
        assert row is not None
        self.silent = False
        now, read_only = row
        self.clock.measured(now, sent, ticks())
        if read_only:
            for pool in (self.ingest, self.pool):
                await pool.expire_connections()
        self._turn(not read_only, _READ_ONLY)

    def suspect(self) -> None:
        """Something failed: treat the database as away until a probe says otherwise."""
        # Whether it is lost, and why, is for the probe to say: on a full disk it never is.
        self.up = False
        self._changed.set()

    def _turn(self, up: bool, reason: str = "") -> None:
        self.up = up
        if up != self._said_up:
            self._said_up = up
            if up:
                self._log.info("database connected")
            else:
                # No "reason": every turn is told, however soon after another.
                self._log.warning("database lost", cause=reason)

    async def watch(self) -> None:
        """Probe for ever: every second, and four times a second while it is away."""
        while True:
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PROBE_UP if self.up else _PROBE_DOWN):
                    await self._changed.wait()
            await self.probe()


async def _nothing(_: Any) -> None:
    return None
