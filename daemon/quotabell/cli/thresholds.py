"""``quotabell thresholds``: when to ring."""

from __future__ import annotations

import argparse
import json
from typing import Any

from quotabell.cli.client import API, Daemon, add_connection, connected
from quotabell.cli.command import Commands
from quotabell.cli.exits import OK
from quotabell.cli.terminal import printable, table, terminal

_PATH = f"{API}/thresholds"


def register(commands: Commands) -> None:
    text = "list, add, change and remove thresholds"
    group = commands.add_parser("thresholds", help=text, description=text)
    verbs = group.add_subparsers(required=True, metavar="COMMAND")

    listed = verbs.add_parser("list", help="list them", description="list thresholds")
    add_connection(listed)
    listed.add_argument("--user", help="of this user and of everybody")
    listed.add_argument("--provider", help="of this provider")
    listed.add_argument("--json", action="store_true", help="as JSON")
    listed.set_defaults(run=connected(_list))

    text = "ring when a quota reaches so many percent"
    add = verbs.add_parser("add", help=text, description=text)
    add_connection(add)
    add.add_argument("percentage", type=_percentage, metavar="PERCENT")
    add.add_argument("--provider", default="*", help="only of this one (default: any)")
    add.add_argument("--user", help="only of this user (default: everybody)")
    add.set_defaults(run=connected(_add))

    text = "change a threshold"
    change = verbs.add_parser("change", help=text, description=text)
    add_connection(change)
    change.add_argument("id", metavar="ID", help="as `list` shows it; its beginning is enough")
    change.add_argument("--percentage", type=_percentage, metavar="PERCENT")
    change.add_argument("--on", action="store_true", default=None, dest="active", help="ring")
    change.add_argument("--off", action="store_false", dest="active", help="do not ring")
    change.set_defaults(run=connected(_change))

    text = "remove a threshold"
    remove = verbs.add_parser("remove", help=text, description=text)
    add_connection(remove)
    remove.add_argument("id", metavar="ID", help="as `list` shows it; its beginning is enough")
    remove.set_defaults(run=connected(_remove))


def _percentage(text: str) -> float:
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = 0.0
    if not 0 < value <= 1_000:
        raise argparse.ArgumentTypeError("must be more than 0 and at most 1000")
    return value


async def _list(daemon: Daemon, arguments: argparse.Namespace) -> int:
    asked = {"userId": arguments.user, "provider": arguments.provider}
    found = await daemon.listed(_PATH, {k: v for k, v in asked.items() if v is not None})
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return OK
    if not found:
        print("None: those of quotas[].thresholds and thresholds.default hold.")
    for line in table([_row(item) for item in found], terminal().width):
        print(line)
    return OK


def _row(item: Any) -> tuple[str, ...]:
    state = "" if item["isActive"] else "off"
    user = printable(item["userId"] or "everybody")
    provider = "any provider" if item["provider"] == "*" else printable(item["provider"])
    return (item["id"], f"{item['thresholdPercentage']:g} %", provider, user, state)


async def _add(daemon: Daemon, arguments: argparse.Namespace) -> int:
    new = {"provider": arguments.provider, "thresholdPercentage": arguments.percentage}
    if arguments.user is not None:
        new["userId"] = arguments.user
    print("added", "  ".join(_row(await daemon.post(_PATH, new))).rstrip())
    return OK


async def _change(daemon: Daemon, arguments: argparse.Namespace) -> int:
    asked = {"thresholdPercentage": arguments.percentage, "isActive": arguments.active}
    changes = json.dumps({k: v for k, v in asked.items() if v is not None}).encode()
    key = await daemon.identify(_PATH, arguments.id)
    row = await daemon.ask("PATCH", f"{_PATH}/{key}", changes, "application/json")
    print("changed", "  ".join(_row(row)).rstrip())
    return OK


async def _remove(daemon: Daemon, arguments: argparse.Namespace) -> int:
    key = await daemon.identify(_PATH, arguments.id)
    await daemon.ask("DELETE", f"{_PATH}/{key}")
    print("removed", key)
    return OK
