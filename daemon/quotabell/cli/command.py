"""What commands share: the configuration, and the database beside a daemon or without it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeAlias

from quotabell import log
from quotabell.cli.exits import EX_CONFIG
from quotabell.config import Config, load
from quotabell.errors import ConfigError
from quotabell.store.database import Database
from quotabell.store.reach import reached

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run: TypeAlias = Callable[[argparse.Namespace], int]


def add_config(command: argparse.ArgumentParser) -> None:
    """The option that every command with a configuration has."""
    command.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML configuration (default: $QUOTABELL_CONFIG, else built-in defaults)",
    )


def configured(run: Callable[[Config, argparse.Namespace], int]) -> Run:
    """The command that reads the configuration first; EX_CONFIG if that cannot be used."""

    def read_and_run(arguments: argparse.Namespace) -> int:
        try:
            config = load(arguments.config, os.environ)
        except ConfigError as error:
            print("The configuration cannot be used:", file=sys.stderr)
            for line in error.problems:
                print(f"  {line}", file=sys.stderr)
            return EX_CONFIG
        return run(config, arguments)

    return read_and_run


@contextlib.asynccontextmanager
async def opened(config: Config) -> AsyncIterator[tuple[Database, log.Logger]]:
    """The database, for a command that works beside the daemon or without it."""
    logger = log.configure("warning", config.log.format).get_logger()
    async with contextlib.AsyncExitStack() as stack:
        url = config.database.url.get_secret_value()
        dsn = await stack.enter_async_context(reached(url, config.data_dir, logger))
        prepared = config.database.prepared_statements
        database = Database(dsn, pool_size=2, prepared_statements=prepared, log=logger)
        stack.push_async_callback(database.close)
        await database.open()
        yield database, logger
