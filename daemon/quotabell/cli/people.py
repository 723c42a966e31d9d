"""``quotabell forget`` and ``export``: all that is known of a person."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from datetime import UTC, datetime

from quotabell import __version__
from quotabell.cli.command import Commands, add_config, configured, opened
from quotabell.cli.exits import EX_DATAERR, FAILED, OK, CommandFailed
from quotabell.cli.terminal import printable
from quotabell.config import Config
from quotabell.service.forget import forget
from quotabell.store.people import PeopleStore
from quotabell.store.quotas import QuotaStore


def register(commands: Commands) -> None:
    text = "remove a person from everywhere in the database"
    command = commands.add_parser(
        "forget",
        help=text,
        description=text,
        epilog="Events, sums, quota states, samples, alerts, messages, browsers, thresholds and "
        "silences. Daemons that run stop showing the person within seconds. What is reported for "
        "the person afterwards counts anew.",
    )
    add_config(command)
    command.add_argument("users", nargs="+", metavar="USER")
    command.add_argument("--yes", action="store_true", help="do not ask")
    command.set_defaults(run=configured(_forget))

    text = "write everything about a person to standard output, a JSON object a line"
    command = commands.add_parser(
        "export",
        help=text,
        description=text,
        epilog="What could be used to reach a browser is left out.",
    )
    add_config(command)
    command.add_argument("user", metavar="USER")
    command.set_defaults(run=configured(_export))


def _named(user: str) -> str:
    if not user or "\0" in user:
        raise CommandFailed("a user has a name", EX_DATAERR)
    return user


def _forget(config: Config, arguments: argparse.Namespace) -> int:
    users = [_named(user) for user in dict.fromkeys(arguments.users)]
    where = _where(config)
    if not arguments.yes and not _agreed(users, where):
        return FAILED

    async def run() -> bool:
        done = True
        async with opened(config) as (database, _):
            for user in users:
                print(f"{printable(user)}, {where}:", flush=True)
                gone = await forget(PeopleStore(database), QuotaStore(database), user, print)
                if not gone:
                    print("  somebody still reports for them: end that, then repeat this")
                done = done and gone
        return done

    return OK if asyncio.run(run()) else FAILED


def _where(config: Config) -> str:
    if config.database.embedded:
        return f"in {config.data_dir}"
    hosts = config.database.url.get_secret_value().rpartition("@")[2].partition("?")[0]
    return f"in the database {hosts}"


def _agreed(users: list[str], where: str) -> bool:
    if not sys.stdin.isatty():
        raise CommandFailed("this asks before it removes anything; without a terminal: --yes")
    names = printable(", ".join(users))
    question = f"Remove all that is known of {names} {where}? It cannot be undone. [y/N] "
    return input(question).strip().lower() in ("y", "yes")


def _export(config: Config, arguments: argparse.Namespace) -> int:
    user = _named(arguments.user)

    async def run() -> None:
        async with opened(config) as (database, _):
            head = {
                "quotabell": __version__,
                "user": user,
                "exportedAt": datetime.now(UTC).isoformat(),
            }
            print(json.dumps(head, ensure_ascii=False))
            async for table, row in PeopleStore(database).rows(user):
                print(f'{{"table":"{table}","row":{row}}}')
            sys.stdout.flush()

    asyncio.run(run())
    return OK
