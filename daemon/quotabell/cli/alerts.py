"""``quotabell alerts``: what fires, and acknowledging it."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime
from typing import Any

from quotabell.cli.client import API, Daemon, add_connection, connected
from quotabell.cli.command import Commands
from quotabell.cli.exits import OK
from quotabell.cli.terminal import duration, moment, printable, table, terminal

_PATH = f"{API}/alerts"


def register(commands: Commands) -> None:
    text = "list alerts, and acknowledge one"
    group = commands.add_parser("alerts", help=text, description=text)
    verbs = group.add_subparsers(required=True, metavar="COMMAND")

    text = "list what fires"
    listed = verbs.add_parser("list", help=text, description=text)
    add_connection(listed)
    listed.add_argument("--user", help="only of this user (a shell pattern)")
    listed.add_argument("--all", action="store_true", help="what has ended as well")
    listed.add_argument("--json", action="store_true", help="as JSON")
    listed.set_defaults(run=connected(_list))

    text = "acknowledge an alert: it is not repeated until it gets worse"
    ack = verbs.add_parser("ack", help=text, description=text)
    add_connection(ack)
    ack.add_argument("id", metavar="ID", help="as `list` shows it; its beginning is enough")
    ack.set_defaults(run=connected(_ack))


async def _list(daemon: Daemon, arguments: argparse.Namespace) -> int:
    asked = {"status": "all" if arguments.all else "firing"}
    if arguments.user is not None:
        asked["userId"] = arguments.user
    found = await daemon.listed(_PATH, asked)
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
        return OK
    if not found:
        print("Nothing fires." if not arguments.all else "Nothing has fired.")
    now = datetime.now(UTC)
    for line in table([_row(item, now) for item in found], terminal().width):
        print(line)
    return OK


def _row(item: Any, now: datetime) -> tuple[str, ...]:
    began, ended = moment(item["startedAt"]) or now, moment(item["endedAt"])
    when = f"ended {duration(now - ended)} ago" if ended else f"for {duration(now - began)}"
    caller = [x for x in (item["provider"], item["model"]) if x != "*"]
    about = ", ".join(filter(None, (item["quota"], " / ".join(caller), item["userId"])))
    about = item.get("subject") or about
    if item["reason"]:
        about += f" ({item['reason']})"
    elif item["acknowledgedBy"]:
        about += f" (acknowledged by {item['acknowledgedBy']})"
    what = f"{item['kind']} {item['level']:g} %" if item["level"] else item["kind"]
    return (item["id"], what, when, printable(about))


async def _ack(daemon: Daemon, arguments: argparse.Namespace) -> int:
    key = await daemon.identify(_PATH, arguments.id)
    answer = await daemon.post(f"{_PATH}/{key}/ack", {})
    print(f"acknowledged {key} by {printable(answer['data']['acknowledgedBy'])}")
    return OK
