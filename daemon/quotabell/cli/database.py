"""``quotabell migrate`` and ``recount``: the database, put in order."""

from __future__ import annotations

import argparse

import uvloop

from quotabell import log
from quotabell.cli.command import Commands, add_config, configured, opened
from quotabell.config import Config
from quotabell.metrics import Metrics
from quotabell.service.counting import Counting
from quotabell.service.recount import check, recount
from quotabell.store.migrate import migrate
from quotabell.store.quotas import QuotaStore
from quotabell.store.reach import reached


def register(commands: Commands) -> None:
    text = "bring the database schema up to date, then end"
    command = commands.add_parser("migrate", help=text, description=text)
    add_config(command)
    command.set_defaults(run=configured(_migrate))

    text = "count quotas anew from the events of their open periods"
    command = commands.add_parser("recount", help=text, description=text)
    add_config(command)
    command.add_argument("quotas", nargs="*", metavar="QUOTA", help="default: all")
    command.add_argument(
        "--check", action="store_true", help="only compare; exit code 1 if they differ"
    )
    command.set_defaults(run=configured(_recount))


def _migrate(config: Config, arguments: argparse.Namespace) -> int:
    async def run() -> None:
        logger = log.configure(config.log.level, config.log.format).get_logger()
        url = config.database.url.get_secret_value()
        async with reached(url, config.data_dir, logger) as dsn:
            await migrate(dsn)

    uvloop.run(run())
    print("the schema is up to date")
    return 0


def _recount(config: Config, arguments: argparse.Namespace) -> int:
    async def run() -> bool:
        async with opened(config) as (database, logger):
            store = QuotaStore(database)
            if not arguments.check:
                counting = Counting(store, Metrics(), logger)
                await recount(store, counting, arguments.quotas, print)
            return await check(store, print)

    return 0 if uvloop.run(run()) else 1
