"""Commands that talk to a running daemon: what they say, what they change, how they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from quotabell.config import Config, load
from tests.process.program import Done, quotabell_begun
from tests.process.terminal import command
from tests.support import daemon
from tests.support.databases import fresh
from tests.support.load import steady_port
from tests.support.postgres import TEMPLATE, Cluster, Database

EX_DATAERR, EX_NOINPUT, EX_UNAVAILABLE, EX_NOPERM = 65, 66, 69, 77
TABLES = "token_usage, usage_events, alerts, silences, token_thresholds"
TOKENS = [
    {"name": "apps", "token": "token-that-may-ingest", "scopes": ["ingest"]},
    {"name": "ops", "token": "token-that-may-all", "scopes": ["admin"]},
]


class Shell:
    """Runs commands against one daemon, as somebody with the admin's token."""

    def __init__(self, url: str, token_file: Path) -> None:
        self.url = url
        self.token_file = token_file

    async def __call__(self, *arguments: str | Path, stdin: bytes = b"") -> Done:
        environment = {"QUOTABELL_URL": self.url, "QUOTABELL_TOKEN_FILE": str(self.token_file)}
        return await command(*arguments, stdin=stdin, environment=environment)

    async def well(self, *arguments: str | Path, stdin: bytes = b"") -> str:
        """What it says, having ended with 0."""
        done = await self(*arguments, stdin=stdin)
        assert (done.code, done.err) == (0, ""), done
        return done.out

    async def use(self, user: str, used: int, limit: int = 1_000) -> None:
        call = ("--provider", "openai", "--model", "gpt-5", "--user", user)
        await self.well("report", *call, "--used", str(used), "--of", str(limit))


@pytest.fixture(scope="module")
def shared(
    postgres_18: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Database]]:
    """A daemon for all tests of the module, on a thread of its own: its address, its database."""
    quotas = [{"name": "daily", "limit": 1_000, "window": "day", "per": ["user"]}]
    for database in fresh(postgres_18, TEMPLATE):
        folder = tmp_path_factory.mktemp("daemon")
        path = daemon.write_config(folder, database.tcp_dsn, auth={"tokens": TOKENS}, quotas=quotas)
        with in_background(load(path, {})) as url:
            yield url, database


@contextlib.contextmanager
def in_background(config: Config) -> Iterator[str]:
    address: Future[str] = Future()
    loop, stop = asyncio.new_event_loop(), asyncio.Event()

    async def host() -> None:
        async with daemon.running(config) as running:
            address.set_result(running.url)
            await stop.wait()

    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(loop.run_until_complete, host())
        ended.add_done_callback(lambda done: address.done() or address.cancel())
        try:
            yield address.result(timeout=60)
        finally:
            loop.call_soon_threadsafe(stop.set)
            ended.result(timeout=60)
            loop.close()


@pytest.fixture
def shell(shared: tuple[str, Database], tmp_path: Path) -> Shell:
    url, database = shared
    database.cluster.execute(f"truncate {TABLES}", database.name)
    token = tmp_path / "token"
    token.write_text("token-that-may-all\n")
    return Shell(url, token)


def line(user: str, tokens: int, **more: object) -> bytes:
    call = {"provider": "openai", "model": "gpt-5", "userId": user, "inputTokens": tokens}
    return json.dumps(call | more).encode() + b"\n"


# --- status --------------------------------------------------------------------------------


async def test_status_shows_the_worst_first_and_what_fires(shell: Shell) -> None:
    assert "No usage" in await shell.well("status")
    await shell.use("bob", 120)
    await shell.use("alice", 915)

    shown = (await shell.well("status")).splitlines()

    assert shown[0].startswith("openai / gpt-5, alice  ")
    assert "  91 %  915 of 1,000" in shown[0]
    assert shown[1].startswith("openai / gpt-5, bob    ")
    assert shown[3] == "1 firing:"
    assert "threshold 90 %  openai / gpt-5, alice" in shown[4]
    assert "\x1b" not in "".join(shown)  # no colour but on a terminal
    assert max(map(len, shown)) <= 100


async def test_status_ends_with_1_only_if_asked_to_and_something_fires(shell: Shell) -> None:
    assert (await shell("status", "--exit-code")).code == 0
    await shell.use("alice", 915)
    assert (await shell("status")).code == 0
    assert (await shell("status", "--exit-code")).code == 1

    alert = json.loads(await shell.well("status", "--json"))["alerts"][0]
    assert alert["id"] in await shell.well("alerts", "list")
    assert "acknowledged" in await shell.well("alerts", "ack", alert["id"][:8])

    assert (await shell("status", "--exit-code")).code == 0
    assert "acknowledged by ops" in await shell.well("status")


async def test_what_is_reported_cannot_steer_a_terminal(shell: Shell) -> None:
    await shell.use("eve\x1b[2J\x07", 915)

    for arguments in (("status",), ("alerts", "list")):
        shown = await shell.well(*arguments)

        assert "eve�[2J" in shown
        assert not any(ord(c) < 32 and c != "\n" for c in shown)


@pytest.mark.parametrize("no_color", ["", "1"])
async def test_a_terminal_gets_colour_unless_it_says_no(shell: Shell, no_color: str) -> None:
    await shell.use("alice", 915)
    ours, theirs = pty.openpty()
    try:
        environment = {"QUOTABELL_URL": shell.url, "NO_COLOR": no_color, "TERM": "xterm"} | {
            "QUOTABELL_TOKEN": "token-that-may-all",
            "COLUMNS": "60",
        }
        async with quotabell_begun("status", environment=environment, stdout=theirs) as process:
            assert await process.wait() == 0
        shown = os.read(ours, 65536).decode()
    finally:
        os.close(ours)
        os.close(theirs)

    assert "alice" in shown
    assert ("\x1b[" in shown) is (no_color == "")
    if no_color:
        assert max(map(len, shown.splitlines())) <= 60


# --- report --------------------------------------------------------------------------------


async def test_a_pipe_that_is_sent_again_counts_once(shell: Shell) -> None:
    time = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    # Two equal calls are two calls, in one pipe; the same pipe again is a repetition.
    lines = line("alice", 5, time=time) * 2 + line("bob", 7, id="call-1", time=time)

    first = await shell.well("report", stdin=lines)
    again = await shell.well("report", stdin=lines)
    new = await shell.well("report", stdin=line("alice", 1) * 2)

    assert first == "accepted 3, duplicates 0, corrected 0, rejected 0\n"
    assert again == "accepted 0, duplicates 3, corrected 0, rejected 0\n"
    assert new == "accepted 2, duplicates 0, corrected 0, rejected 0\n"
    usage = json.loads(await shell.well("status", "--json"))["usage"]
    assert {u["userId"]: u["tokensUsed"] for u in usage} == {"alice": 12, "bob": 7}


async def test_bad_lines_are_told_by_their_number_and_cost_the_others_nothing(
    shell: Shell,
) -> None:
    lines = b"".join([line("alice", 5), b"oops\n", b"\n", line("bob", -1), b"[1]\n", line("c", 2)])
    # What JSON cannot say, and a line that is longer than any event, would spoil their batch.
    lines += line("d", 1, costUsd=float("nan")) + b'{"costUsd": 1e999}\n' + line("x" * 300_000, 1)

    done = await shell("report", stdin=lines)

    assert done.code == EX_DATAERR
    assert done.out == "accepted 2, duplicates 0, corrected 0, rejected 6\n"
    told = done.err.splitlines()
    assert [text.partition(":")[0] for text in told] == [f"line {n}" for n in (2, 4, 5, 7, 8, 9)]
    assert "inputTokens" in told[1]
    told_again = json.loads((await shell("report", "--json", stdin=b"oops\n")).out)
    assert told_again["rejected"] == [{"line": 1, "reason": "is no JSON"}]


async def test_one_event_is_reported_by_options(shell: Shell) -> None:
    call = ("--provider", "openai", "--model", "gpt-5", "--user", "alice", "--id", "call-1")
    when = ("--time", datetime.now(UTC).isoformat())

    first = await shell.well("report", *call, *when, "--input", "60", "--output", "4_0")
    again = await shell.well("report", *call, *when, "--input", "60", "--output", "40")

    assert first.startswith("accepted 1,")
    assert again.startswith("accepted 0, duplicates 1,")
    refused = await shell("report", "--provider", "openai", "--model", "gpt-5")
    assert refused.code == EX_DATAERR
    assert "no tokens are given" in refused.err
    assert (await shell("report", "--provider", "openai")).code == EX_DATAERR


# --- explain -------------------------------------------------------------------------------


async def test_explain_says_how_a_payload_would_count_and_stores_nothing(
    shell: Shell, tmp_path: Path
) -> None:
    path = tmp_path / "events.ndjson"
    path.write_bytes(line("alice", 100) + line("bob", -5))

    done = await shell("explain", path)

    assert done.code == EX_DATAERR
    assert done.out.splitlines()[:3] == [
        "1: accepted, openai / gpt-5, alice",
        "   100 tokens: input 100",
        "   quota daily of alice: +100 of 1,000",
    ]
    assert "2: rejected: inputTokens" in done.out
    assert json.loads(await shell.well("status", "--json"))["usage"] == []


async def test_what_the_daemon_cannot_explain_is_not_sent_to_it(
    shell: Shell, tmp_path: Path
) -> None:
    payload = tmp_path / "export.json"
    payload.write_text('{"resourceSpans": []}')

    done = await shell("explain", payload)

    assert done.code == 1
    assert "cannot yet say how otlp-traces would count; nothing was sent" in done.err
    binary = tmp_path / "export.bin"
    binary.write_bytes(b"\x0a\x00\xff")
    assert (await shell("explain", binary)).code == EX_DATAERR
    assert json.loads(await shell.well("status", "--json"))["usage"] == []
    assert (await shell("explain", "no-such-file")).code == EX_NOINPUT


# --- thresholds and silences ---------------------------------------------------------------


async def test_thresholds_are_added_changed_and_removed(shell: Shell) -> None:
    assert "None" in await shell.well("thresholds", "list")
    added = await shell.well("thresholds", "add", "66", "--user", "alice")
    key = added.split()[1]

    assert (await shell.well("thresholds", "list")).split() == [
        key,
        "66",
        "%",
        "any",
        "provider",
        "alice",
    ]
    await shell.well("thresholds", "change", key[:6], "--percentage", "55%", "--off")
    shown = json.loads(await shell.well("thresholds", "list", "--json"))
    assert [(t["thresholdPercentage"], t["isActive"]) for t in shown] == [(55.0, False)]
    await shell.well("thresholds", "remove", key)
    assert json.loads(await shell.well("thresholds", "list", "--json")) == []
    assert (await shell("thresholds", "remove", key)).code == 1
    assert (await shell("thresholds", "remove", "abcd")).err.endswith("begin with abcd\n")
    assert (await shell("thresholds", "add", "0")).code == 2


async def test_silences_are_added_for_a_while_and_ended(shell: Shell) -> None:
    assert "Nothing" in await shell.well("silences", "list")
    added = await shell.well("silences", "add", "2h", "--user", "ali*", "--reason", "on leave")
    key = added.split()[1]

    shown = await shell.well("silences", "list")
    assert "userId ali*" in shown
    assert "on leave" in shown
    found = json.loads(await shell.well("silences", "list", "--json"))[0]
    ends = datetime.fromisoformat(found["endsAt"]) - datetime.now(UTC)
    assert timedelta(hours=1, minutes=50) < ends <= timedelta(hours=2)
    await shell.well("silences", "end", key[:8])
    assert "Nothing" in await shell.well("silences", "list")
    everything = await shell("silences", "add", "2h", "--reason", "all of it")
    assert everything.code == EX_DATAERR
    assert "matchers" in everything.err


# --- who may, and who is there -------------------------------------------------------------


async def test_what_is_missing_is_said_with_what_to_do(shell: Shell, tmp_path: Path) -> None:
    here = {"QUOTABELL_URL": shell.url}
    without = await command("status", environment=here)
    unknown = await command("status", environment=here | {"QUOTABELL_TOKEN": "canary-unknown"})
    little = await command(
        "status", environment=here | {"QUOTABELL_TOKEN": "token-that-may-ingest"}
    )
    missing = await command("status", "--token-file", tmp_path / "none", environment=here)
    away = await command("status", "--url", f"http://127.0.0.1:{steady_port()}")

    assert [done.code for done in (without, unknown, little)] == [EX_NOPERM] * 3
    assert "--token-file" in without.err
    assert "scope read" in little.err
    assert "canary" not in unknown.err
    assert (missing.code, away.code) == (EX_NOINPUT, EX_UNAVAILABLE)
    assert "quotabell serve" in away.err
    assert (await command("status", "--url", "http://me:canary@host")).code == 2


async def test_the_address_is_that_of_the_configuration(shell: Shell, tmp_path: Path) -> None:
    content = "listen: '{}'\n"
    path = tmp_path / "listening.yaml"
    path.write_text(content.format(shell.url.removeprefix("http://")))
    token = {"QUOTABELL_TOKEN": "token-that-may-all"}

    assert (await command("status", "-c", path, environment=token)).code == 0
    path.write_text(content.format("127.0.0.1:0"))
    assert (await command("status", "-c", path, environment=token)).code == 78


async def test_a_pipe_outlasts_a_daemon_that_is_away_for_a_moment(
    database: Database, tmp_path: Path
) -> None:
    port = steady_port()
    path = daemon.write_config(tmp_path, database.tcp_dsn, listen=f"127.0.0.1:{port}")
    environment = {"QUOTABELL_URL": f"http://127.0.0.1:{port}"}
    read, write = os.pipe()
    async with quotabell_begun("report", environment=environment, stdin=read) as process:
        os.close(read)
        os.write(write, line("alice", 5))
        os.close(write)
        async with daemon.running(load(path, {})):
            out, _ = await process.communicate()

    assert process.returncode == 0
    assert out == b"accepted 1, duplicates 0, corrected 0, rejected 0\n"
