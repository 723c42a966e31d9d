"""``quotabell status``: what is used, what fires."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from quotabell.cli.client import API, Daemon, add_connection, connected
from quotabell.cli.command import Commands
from quotabell.cli.exits import FAILED, OK
from quotabell.cli.terminal import (
    Colour,
    Terminal,
    cut,
    duration,
    moment,
    printable,
    terminal,
)
from quotabell.domain.figures import amount

_NAMES, _BAR = 34, 24  # columns at most


def register(commands: Commands) -> None:
    text = "show the quotas that are used most, and what fires"
    command = commands.add_parser("status", help=text, description=text)
    add_connection(command)
    command.add_argument(
        "-n", "--limit", type=_whole, default=10, help="how many quotas (default: %(default)s)"
    )
    command.add_argument("--user", help="only of this user (a shell pattern)")
    command.add_argument("--provider", help="only of this provider (a shell pattern)")
    command.add_argument("--quota", help="only of this quota (a shell pattern)")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.add_argument(
        "--exit-code", action="store_true", help="end with 1 if any alert fires unacknowledged"
    )
    command.set_defaults(run=connected(_status))


def _whole(text: str) -> int:
    value = int(text) if text.isascii() and text.isdecimal() else 0
    if not 1 <= value <= 5_000:
        raise argparse.ArgumentTypeError("must be a number from 1 to 5000")
    return value


async def _status(daemon: Daemon, arguments: argparse.Namespace) -> int:
    asked = {"userId": arguments.user, "provider": arguments.provider, "quota": arguments.quota}
    filters = {name: value for name, value in asked.items() if value is not None}
    states = await daemon.get(f"{API}/usage", filters | {"limit": str(arguments.limit)})
    alerts = await daemon.listed(f"{API}/alerts", filters)
    if arguments.json:
        more = states["nextCursor"] is not None
        found = {"url": daemon.url, "usage": states["items"], "more": more, "alerts": alerts}
        print(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        now = datetime.now(UTC)
        for line in _lines(states, alerts, now, terminal()):
            print(line)
    firing = any(alert["acknowledgedAt"] is None for alert in alerts)
    return FAILED if arguments.exit_code and firing else OK


def _lines(states: Any, alerts: list[Any], now: datetime, to: Terminal) -> Iterator[str]:
    items = states["items"]
    if not items:
        yield "No usage of a quota is known. Report some: `quotabell report --help`."
    names = [_name(item) for item in items]
    width = min(_NAMES, to.width // 3, max(map(len, names), default=0))
    bar = max(5, min(_BAR, to.width - width - 45))
    for item, name in zip(items, names, strict=True):
        yield _line(item, cut(name, width).ljust(width), bar, now, to)
    if states["nextCursor"]:
        yield to.paint("… and more: --limit", "dim")
    yield ""
    if not alerts:
        yield to.paint("Nothing fires.", "green")
        return
    yield to.paint(f"{len(alerts)} firing:", "bold")
    for alert in alerts:
        since = duration(now - (moment(alert["startedAt"]) or now))
        known = f", acknowledged by {alert['acknowledgedBy']}" if alert["acknowledgedAt"] else ""
        what = f"{alert['kind']} {alert['level']:g} %" if alert["level"] else alert["kind"]
        text = printable(f"  {what}  {_name(alert)}, for {since}{known}")
        yield to.paint(cut(text, to.width), "dim" if known else "red")


def _name(item: Any) -> str:
    """quota, provider / model, user: what tells states apart; else the subject of an alert."""
    if item.get("subject"):
        return printable(item["subject"])
    caller = " / ".join(x for x in (item["provider"], item["model"]) if x != "*")
    quota = "" if item["quota"] == "reported" else item["quota"]
    return printable(", ".join(filter(None, (quota, caller, item["userId"]))))


def _line(item: Any, name: str, bar: int, now: datetime, to: Terminal) -> str:
    percentage = item["percentage"]
    if percentage is None:
        used = _used(item)
        return cut(f"{name}  {' ' * bar}      ?  {used}, limit unknown", to.width)
    colour = _colour(item)
    drawn = to.paint(to.bar(percentage / 100, bar), colour)
    figure = f"{int(percentage)} %"
    facts = [f"{_used(item)} of {_amount(item, item['tokenLimit'])}", *_times(item, now)]
    # What is not painted is cut; the codes of colours take no columns.
    rest = cut(", ".join(facts), max(10, to.width - len(name) - bar - 11))
    return f"{name}  {drawn} {figure:>6}  {rest}"


def _used(item: Any) -> str:
    return _amount(item, item["tokensUsed"])


def _amount(item: Any, value: int) -> str:
    unit = {"percent": " %", "requests": " requests"}.get(item["unit"], "")
    return f"{amount(value)}{unit}"


def _times(item: Any, now: datetime) -> Iterator[str]:
    if (out := moment(item["exhaustsAt"])) and out > now:
        yield f"runs out in {duration(out - now)}"
    if (end := moment(item["periodEnd"])) and end > now:
        yield f"resets in {duration(end - now)}"


def _colour(item: Any) -> Colour:
    reached = [t for t in item["thresholds"] if t <= item["percentage"]]
    if item["percentage"] >= 100 or (reached and len(reached) == len(item["thresholds"])):
        return "red"
    return "yellow" if reached else "green"
