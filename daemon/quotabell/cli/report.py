"""``quotabell report``: usage from scripts and pipes."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import uuid
from datetime import UTC, datetime
from typing import Any

from quotabell.cli.client import API, Daemon, add_connection, connected
from quotabell.cli.command import Commands
from quotabell.cli.exits import EX_DATAERR, OK, CommandFailed
from quotabell.cli.reporting import Feed, Lines, Numbered, Tally, send
from quotabell.cli.terminal import printable

_COUNTS = (
    ("input", "inputTokens", "uncached input tokens"),
    ("cache-read", "cacheReadTokens", "input tokens read from a cache"),
    ("cache-write", "cacheWriteTokens", "input tokens written to a cache"),
    ("output", "outputTokens", "visible output tokens"),
    ("reasoning", "reasoningTokens", "reasoning tokens"),
    ("other", "otherTokens", "tokens of no known kind"),
    ("total", "totalTokens", "all tokens; what is more than the kinds counts as other"),
)
_EVENT = (*(flag.replace("-", "_") for flag, _, _ in _COUNTS), "cost", "id", "time", "source")
_SHOWN = 20  # refused lines


def register(commands: Commands) -> None:
    text = "report usage: one event by options, or a line of NDJSON each from standard input"
    command = commands.add_parser(
        "report",
        help=text,
        description=text,
        epilog="Without --provider, events are read from standard input, one JSON object a line "
        "as POST /api/token-monitor/events takes them. A batch is sent again while the daemon is "
        "away, under the same ids, so that nothing counts twice. Lines with an id or a time may "
        "be piped again as well; those with neither count anew then.",
    )
    add_connection(command)
    command.add_argument("--provider", help="such as openai")
    command.add_argument("--model", help="such as gpt-5")
    command.add_argument("--user", help="who used it; none: nobody in particular")
    for flag, _, meaning in _COUNTS:
        command.add_argument(f"--{flag}", type=_whole, metavar="TOKENS", help=meaning)
    command.add_argument("--cost", type=_cost, metavar="USD", help="what it cost")
    command.add_argument("--id", help="one id counts once (default: a new one)")
    command.add_argument("--time", help="when, in RFC 3339 (default: now)")
    command.add_argument("--source", help="what made the call")
    command.add_argument(
        "--used", type=_whole, metavar="TOKENS", help="instead: so much of --of is used now"
    )
    command.add_argument("--of", type=_whole, metavar="TOKENS", help="the limit; none: not known")
    command.add_argument("--json", action="store_true", help="say what became of it as JSON")
    command.set_defaults(run=connected(_report))


def _whole(text: str) -> int:
    digits = text.replace("_", "")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > 19:
        raise argparse.ArgumentTypeError("must be a whole number of tokens")
    return int(digits)


def _cost(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1e9:
        raise argparse.ArgumentTypeError("must be an amount in USD")
    return value


async def _report(daemon: Daemon, arguments: argparse.Namespace) -> int:
    given = [f"--{name.replace('_', '-')}" for name in _EVENT if _of(arguments, name) is not None]
    if arguments.used is not None or arguments.of is not None:
        if given:
            raise CommandFailed(f"--used is a snapshot, {given[0]} is of an event", EX_DATAERR)
        return await _snapshot(daemon, arguments)
    tally = Tally()
    if arguments.provider is not None or arguments.model is not None:
        await send(daemon, [Numbered(0, _event(arguments))], tally)
    elif given or arguments.user is not None:
        raise CommandFailed("an event needs --provider and --model", EX_DATAERR)
    else:
        await _pipe(daemon, tally)
    return _told(tally, arguments)


def _of(arguments: argparse.Namespace, name: str) -> Any:
    return getattr(arguments, name)


def _event(arguments: argparse.Namespace) -> dict[str, Any]:
    _named(arguments)
    event: dict[str, Any] = {
        # A time goes with the id: the day of a call is a part of its key.
        "id": arguments.id or str(uuid.uuid4()),
        "time": arguments.time or datetime.now(UTC).isoformat(),
        "provider": arguments.provider,
        "model": arguments.model,
        "userId": arguments.user,
        "source": arguments.source,
        "costUsd": arguments.cost,
    }
    event |= {field: _of(arguments, flag.replace("-", "_")) for flag, field, _ in _COUNTS}
    return {key: value for key, value in event.items() if value is not None}


def _named(arguments: argparse.Namespace) -> None:
    for name in ("provider", "model"):
        if _of(arguments, name) is None:
            raise CommandFailed(f"--{name} is missing", EX_DATAERR)


async def _snapshot(daemon: Daemon, arguments: argparse.Namespace) -> int:
    _named(arguments)
    if arguments.used is None:
        raise CommandFailed("--used is missing", EX_DATAERR)
    body = {
        "provider": arguments.provider,
        "model": arguments.model,
        "tokensUsed": arguments.used,
        "tokenLimit": arguments.of,
        "userId": arguments.user,
    }
    answer = await daemon.post(f"{API}/update", body)
    if arguments.json:
        print(json.dumps(answer["data"], ensure_ascii=False))
    else:
        share = answer["data"]["percentage"]
        print("stored" if share is None else f"stored: {share:g} % is used")
    return OK


async def _pipe(daemon: Daemon, tally: Tally) -> None:
    if sys.stdin.isatty():
        print("Reading events from standard input, one a line; Ctrl-D ends.", file=sys.stderr)
    batches = Feed(sys.stdin.buffer, Lines(tally)).batches()
    while batch := await asyncio.to_thread(next, batches, None):
        await send(daemon, batch, tally)


def _told(tally: Tally, arguments: argparse.Namespace) -> int:
    rejected = sorted(tally.rejected)
    if arguments.json:
        found = {
            "accepted": tally.accepted,
            "duplicates": tally.duplicates,
            "corrected": tally.corrected,
            "rejected": [{"line": line, "reason": why} for line, why in rejected],
        }
        print(json.dumps(found, ensure_ascii=False))
    else:
        for line, why in rejected[:_SHOWN]:
            print(printable(f"line {line}: {why}" if line else why), file=sys.stderr)
        if len(rejected) > _SHOWN:
            print(f"and {len(rejected) - _SHOWN} more lines", file=sys.stderr)
        print(
            f"accepted {tally.accepted}, duplicates {tally.duplicates}, "
            f"corrected {tally.corrected}, rejected {len(rejected)}"
        )
    return EX_DATAERR if rejected else OK
