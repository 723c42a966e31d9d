"""``quotabell silences``: what is not told for a while."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from quotabell.cli.client import API, Daemon, add_connection, connected
from quotabell.cli.command import Commands
from quotabell.cli.exits import OK
from quotabell.cli.terminal import duration, moment, printable, table, terminal
from quotabell.config.units import parse_duration

_PATH = f"{API}/silences"
_MATCHERS = {"provider": "provider", "model": "model", "user": "userId", "quota": "quota"} | {
    "kind": "kind"
}


def register(commands: Commands) -> None:
    text = "list, add and end silences"
    group = commands.add_parser("silences", help=text, description=text)
    verbs = group.add_subparsers(required=True, metavar="COMMAND")

    listed = verbs.add_parser("list", help="list them", description="list silences")
    add_connection(listed)
    listed.add_argument("--all", action="store_true", help="those that ended as well")
    listed.add_argument("--json", action="store_true", help="as JSON")
    listed.set_defaults(run=connected(_list))

    text = "tell nothing of alerts that match for a while; they are recorded all the same"
    add = verbs.add_parser("add", help=text, description=text)
    add_connection(add)
    add.add_argument("length", type=_length, metavar="DURATION", help="such as 30m, 2h or 1d")
    add.add_argument("--reason", required=True, help="why, for whoever wonders")
    for name in _MATCHERS:
        add.add_argument(f"--{name}", metavar="PATTERN", help="a shell pattern (default: any)")
    add.set_defaults(run=connected(_add))

    text = "end a silence now; what still fires is told"
    end = verbs.add_parser("end", help=text, description=text)
    add_connection(end)
    end.add_argument("id", metavar="ID", help="as `list` shows it; its beginning is enough")
    end.set_defaults(run=connected(_end))


def _length(text: str) -> timedelta:
    try:
        length = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    if not timedelta(0) < length <= timedelta(days=366):
        raise argparse.ArgumentTypeError("must be more than nothing and at most 366d")
    return length


async def _list(daemon: Daemon, arguments: argparse.Namespace) -> int:
    if arguments.all:
        found = await daemon.listed(_PATH, {"state": "all"})
    else:
        found = await daemon.listed(_PATH, {"state": "active"})
        found += await daemon.listed(_PATH, {"state": "pending"})
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return OK
    if not found:
        print("Nothing is silenced.")
    now = datetime.now(UTC)
    for line in table([_row(item, now) for item in found], terminal().width):
        print(line)
    return OK


def _row(item: Any, now: datetime) -> tuple[str, ...]:
    starts, ends = moment(item["startsAt"]) or now, moment(item["endsAt"]) or now
    if ends <= now:
        when = f"ended {duration(now - ends)} ago"
    elif starts > now:
        when = f"in {duration(starts - now)}, for {duration(ends - starts)}"
    else:
        when = f"for {duration(ends - now)} more"
    what = ", ".join(f"{k} {v}" for k, v in item["matchers"].items()) or "anything"
    whose = "" if item["userId"] is None else f" of {item['userId']}"
    return (item["id"], when, printable(what + whose), printable(item["reason"]))


async def _add(daemon: Daemon, arguments: argparse.Namespace) -> int:
    matchers = {key: getattr(arguments, name) for name, key in _MATCHERS.items()}
    new = {
        "matchers": {key: value for key, value in matchers.items() if value is not None},
        "endsAt": (datetime.now(UTC) + arguments.length).isoformat(),
        "reason": arguments.reason,
    }
    row = await daemon.post(_PATH, new)
    print("added", "  ".join(_row(row, datetime.now(UTC))))
    return OK


async def _end(daemon: Daemon, arguments: argparse.Namespace) -> int:
    key = await daemon.identify(_PATH, arguments.id)
    await daemon.ask("DELETE", f"{_PATH}/{key}")
    print("ended", key)
    return OK
