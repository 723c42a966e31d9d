"""``quotabell push``: notifications, tried out."""

from __future__ import annotations

import argparse

import uvloop

from quotabell.cli.command import Commands, add_config, configured, opened
from quotabell.config import Config
from quotabell.service.trial import try_out
from quotabell.store.channels import ChannelStore
from quotabell.store.history import HistoryStore


def register(commands: Commands) -> None:
    text = "try out notifications"
    push = commands.add_parser("push", help=text, description=text)
    text = "send a test message and say what becomes of it; exit code 0 if all of it was sent"
    test = push.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "test", help=text, description=text
    )
    add_config(test)
    test.add_argument("--user", default="", help="whose browsers (default: the operators')")
    test.add_argument("--channel", metavar="NAME", help="only this one; webpush: the browsers")
    test.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="default: %(default)g"
    )
    test.set_defaults(run=configured(_push_test))


def _push_test(config: Config, arguments: argparse.Namespace) -> int:
    async def run() -> bool:
        async with opened(config) as (database, _):
            return await try_out(
                HistoryStore(database),
                ChannelStore(database),
                arguments.user,
                arguments.channel,
                print,
                patience=arguments.timeout,
            )

    return 0 if uvloop.run(run()) else 1
