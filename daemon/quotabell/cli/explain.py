"""``quotabell explain``: how a payload would count."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from quotabell.cli.client import API, Daemon, add_connection, connected
from quotabell.cli.command import Commands
from quotabell.cli.exits import EX_DATAERR, EX_NOINPUT, OK, CommandFailed
from quotabell.cli.terminal import printable
from quotabell.domain.figures import amount

PATHS = {
    "events": f"{API}/events",
    "litellm": "/api/ingest/litellm",
    "cloudevents": "/api/ingest/cloudevents",
    "otlp-traces": "/v1/traces",
    "otlp-logs": "/v1/logs",
    "otlp-metrics": "/v1/metrics",
}
_OTLP = {
    "resourceSpans": "otlp-traces",
    "resourceLogs": "otlp-logs",
    "resourceMetrics": "otlp-metrics",
}
_LITELLM = frozenset({"litellm_call_id", "call_type", "standard_logging_object"})


def register(commands: Commands) -> None:
    text = "say how a payload would count, and store nothing"
    command = commands.add_parser("explain", help=text, description=text)
    add_connection(command)
    command.add_argument(
        "file", metavar="FILE", help="what a program would send; -: standard input"
    )
    command.add_argument("--format", choices=PATHS, help="what it is (default: told from the file)")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=connected(_explain))


async def _explain(daemon: Daemon, arguments: argparse.Namespace) -> int:
    raw = _read(arguments.file)
    items = _items(raw)
    format = arguments.format or _format(items)
    if format is None:
        raise CommandFailed(
            "this is no JSON; protobuf cannot tell what it is: name it by --format", EX_DATAERR
        )
    path = PATHS[format]
    # A daemon that does not know the question would count what it is asked about.
    if not await _can_be_asked(daemon, path):
        raise CommandFailed(
            f"the daemon at {daemon.url} cannot yet say how {format} would count; nothing was sent"
        )
    answer = await daemon.ask("POST", path, raw, _type(raw, items), params={"dryRun": "true"})
    if arguments.json:
        print(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        for line in _lines(answer):
            print(printable(line))
    return EX_DATAERR if answer["rejected"] else OK


def _read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise CommandFailed(f"{name}: {error.strerror}", EX_NOINPUT) from None


def _items(raw: bytes) -> list[Any] | None:
    """The values of a JSON or NDJSON payload; None: it is neither."""
    try:
        value = json.loads(raw)
        return value if isinstance(value, list) else [value]
    except (ValueError, RecursionError):
        pass
    found = []
    for line in raw.splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            found.append(json.loads(line))
    # A broken line costs only itself, which the daemon then says.
    return found if any(isinstance(item, dict) for item in found) else None


def _format(items: list[Any] | None) -> str | None:
    if items is None:
        return None
    first = next((item for item in items if isinstance(item, dict)), {})
    for key, name in _OTLP.items():
        if key in first:
            return name
    if "specversion" in first:
        return "cloudevents"
    return "litellm" if _LITELLM & first.keys() else "events"


def _type(raw: bytes, items: list[Any] | None) -> str:
    if items is None:
        return "application/x-protobuf"
    try:
        json.loads(raw)
        return "application/json"
    except ValueError:
        return "application/x-ndjson"


async def _can_be_asked(daemon: Daemon, path: str) -> bool:
    description = await daemon.get("/openapi.json")
    post = description.get("paths", {}).get(path, {}).get("post", {})
    return any(parameter.get("name") == "dryRun" for parameter in post.get("parameters", []))


def _lines(answer: Any) -> Iterator[str]:
    for item in answer["items"]:
        whose = item["userId"] or "nobody in particular"
        caller = f"{item['provider']} / {item['model']}"
        yield f"{item['index'] + 1}: {item['outcome']}, {caller}, {whose}"
        kinds = [f"{name} {count:,}" for name, count in item["kinds"].items() if count]
        yield f"   {item['totalTokens']:,} tokens" + (f": {', '.join(kinds)}" if kinds else "")
        if again := item["duplicateOf"]:
            sender = again["source"].removesuffix("/")
            yield f"   repeats {again['id']} of {sender}, {again['day']}"
        for charge in item["quotas"]:
            of = f" of {charge['userId']}" if charge["userId"] else ""
            limit = amount(charge["limit"])
            yield f"   quota {charge['quota']}{of}: {charge['amount']:+,} of {limit}"
        if not item["quotas"] and not again:
            yield "   counts in no quota"
    for item in answer["rejected"]:
        for fault in item["errors"]:
            field = f"{fault['field']}: " if fault["field"] else ""
            yield f"{item['index'] + 1}: rejected: {field}{fault['message']}"
