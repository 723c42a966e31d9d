"""``quotabell demo``: a daemon that has something to show."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import time
from datetime import UTC, datetime
from typing import Any

from quotabell.cli.client import API, Away, Daemon, Refusal, add_connection, reached
from quotabell.cli.command import Commands
from quotabell.cli.demo_daemon import served
from quotabell.cli.exits import EX_NOPERM, OK, CommandFailed
from quotabell.cli.team import MARK, USERS, Team
from quotabell.cli.terminal import printable

_STORY = 150.0  # seconds of a whole day, at most
_STEP = 1.0  # seconds between two reports; less where the day is shorter
_SHORTEST_STEP = 0.1
_PATIENCE = 15.0  # seconds that a daemon may be away
_LOOK = 2.0  # seconds between two looks at what rang
_REMOVE = f"quotabell forget --yes {' '.join(USERS)}"


def register(commands: Commands) -> None:
    text = "feed a daemon with the made-up usage of a small team, to see it ring"
    command = commands.add_parser(
        "demo",
        help=text,
        description=text,
        epilog=f"Writes for users and providers whose names begin with {MARK} only. "
        f"Remove it with: {_REMOVE}",
    )
    add_connection(command)
    command.add_argument(
        "--serve",
        nargs="?",
        const="127.0.0.1:3001",
        metavar="HOST:PORT",
        help="start a daemon for it, with quotas and data of its own, which both end with it "
        "(default: %(const)s)",
    )
    command.add_argument(
        "--minutes", type=_minutes, metavar="N", help="for how long (default: 3; with --serve 10)"
    )
    command.add_argument("--seed", type=int, default=1, help="other figures (default: %(default)s)")
    command.set_defaults(run=lambda arguments: asyncio.run(_demo(arguments)))


def _minutes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.05 <= value <= 24 * 60:
        raise argparse.ArgumentTypeError("must be from 0.05 to 1440")
    return value


async def _demo(arguments: argparse.Namespace) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with contextlib.AsyncExitStack() as stack:
        if arguments.serve:
            arguments.url = await stack.enter_async_context(served(arguments.serve, stop))
            if stop.is_set():
                return OK
        daemon = await stack.enter_async_context(reached(arguments))
        seconds = 60 * (arguments.minutes or (10 if arguments.serve else 3))
        demo = Demonstration(daemon, arguments.seed, seconds, own=bool(arguments.serve))
        await demo.begin()
        await demo.feed(stop)
        await demo.end()
    return OK


class Demonstration:
    """Feeds ``daemon`` for so many seconds and tells what comes of it."""

    def __init__(self, daemon: Daemon, seed: int, seconds: float, *, own: bool) -> None:
        self._daemon = daemon
        self._seconds = seconds
        self._own = own
        self._story = min(_STORY, 0.85 * seconds)
        self._began = datetime.now(UTC)
        self._team = Team(seed, self._story, f"demo-{self._began:%Y%m%dT%H%M%S.%f}")
        self._events = 0
        self._tokens = 0
        self._told: set[str] = set()
        self._may_look = True
        self._looked = 0.0

    async def begin(self) -> None:
        """Say what will happen. Raises Away, CommandFailed."""
        await self._daemon.get("/openapi.json")  # whether a Quotabell is there
        print(
            f"Feeding {self._daemon.url} for {self._seconds / 60:g} min with made-up usage of "
            f"people who do not exist:\nusers {', '.join(USERS)};\nproviders "
            f"{MARK}anthropic, {MARK}google, {MARK}openai. Ctrl-C ends it.\n"
            f"Watch it at {self._daemon.url}/\n",
            flush=True,
        )

    async def feed(self, stop: asyncio.Event) -> None:
        """Report until the time is over, or ``stop`` is set. Raises Away, CommandFailed."""
        step = min(_STEP, max(_SHORTEST_STEP, self._story / 60))
        begun = time.monotonic()
        ticks = int(self._seconds / step)
        for n in range(1, ticks + 1):
            await _pause(stop, begun + n * step - time.monotonic())
            if stop.is_set():
                break
            # What a day holds does not depend on how fast the daemon answers.
            await self._report(n * step)
            await self._look()
        await self._look(last=True)

    async def _report(self, at: float) -> None:
        tick = self._team.tick(at)
        now = datetime.now(UTC).isoformat()
        events = [event | {"time": now} for event in tick.events]
        if events:
            answer = await self._send(f"{API}/events", events)
            self._events += answer["accepted"] + answer["duplicates"]
            self._tokens += sum(v for e in events for k, v in e.items() if k.endswith("Tokens"))
        await self._send(f"{API}/update", tick.snapshots)

    async def _send(self, path: str, value: Any) -> Any:
        """Report; again while the daemon is away for a moment: it has ids."""
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                return await self._daemon.post(path, value)
            except Away as away:
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(away.retry_after)
            except Refusal:
                raise
            except CommandFailed as error:
                if error.code == EX_NOPERM:
                    raise CommandFailed(
                        f"{error}\nThe demonstration reports for five people: it needs a token "
                        "with the scope ingest and without a user.",
                        EX_NOPERM,
                    ) from None
                raise

    async def _look(self, *, last: bool = False) -> None:
        """Tell what has rung since the last look; a token may not be allowed to."""
        if not self._may_look or not (last or time.monotonic() - self._looked >= _LOOK):
            return
        self._looked = time.monotonic()
        try:
            found = await self._daemon.get("/api/push/history", {"limit": "100"})
        except Away:
            return
        except CommandFailed:
            self._may_look = False
            return
        for item in reversed(found["items"]):
            ours = str(item["data"].get("provider", "")).startswith(MARK)
            ours = ours or str(item["data"].get("quota", "")).startswith(MARK)
            since = datetime.fromisoformat(item["createdAt"]) - self._began
            if ours and since.total_seconds() > 0 and item["id"] not in self._told:
                self._told.add(item["id"])
                minutes, seconds = divmod(int(since.total_seconds()), 60)
                who = f" ({item['userId']})" if item["userId"] else ""
                line = f"{minutes:02d}:{seconds:02d}  {item['kind']}: {item['title']}{who}"
                print(printable(line), flush=True)

    async def end(self) -> None:
        """Say what to look at."""
        url = self._daemon.url
        print(
            f"\nReported {self._events} calls of {self._tokens:,} tokens; "
            f"{len(self._told)} messages were made of them."
        )
        if self._own:
            print("The daemon of this demonstration ends now, and its data is removed.", flush=True)
            return
        print(
            f"""
  {url}/          the quotas, what rings, and the history of every message
  {url}/metrics   the same for Prometheus
  quotabell status --provider '{MARK}*' --url {url}

Remove what was made up, with the configuration of the daemon:

  {_REMOVE}""",
            flush=True,
        )


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(max(0.0, seconds)):
            await stop.wait()
