"""The command line: owns arguments, signals and exit codes; `app` owns the rest."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import uvloop
import yaml

from quotabell import __version__, app, log
from quotabell.config import Config, load, redacted
from quotabell.errors import ConfigError, QuotabellError, SchemaTooNew, Unavailable
from quotabell.metrics import Metrics
from quotabell.service import faults
from quotabell.service.counting import Counting
from quotabell.service.recount import check, recount
from quotabell.service.trial import try_out
from quotabell.store.channels import ChannelStore
from quotabell.store.database import Database
from quotabell.store.history import HistoryStore
from quotabell.store.migrate import migrate
from quotabell.store.quotas import QuotaStore
from quotabell.store.reach import reached

# sysexits(3), so that a supervisor can tell what a restart will not cure.
EX_UNAVAILABLE = 69
EX_CONFIG = 78


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        config = load(arguments.config, os.environ)
    except ConfigError as error:
        print("The configuration cannot be used:", file=sys.stderr)
        for line in error.problems:
            print(f"  {line}", file=sys.stderr)
        return EX_CONFIG
    try:
        return int(arguments.run(config, arguments))
    except (ConfigError, SchemaTooNew) as error:
        return _fail(error, EX_CONFIG)
    except Unavailable as error:
        return _fail(error, EX_UNAVAILABLE)
    except QuotabellError as error:
        return _fail(error, 1)


def _fail(error: QuotabellError, code: int) -> int:
    print(f"quotabell: {error}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quotabell", description="Watches LLM token quotas and rings before they run out."
    )
    parser.add_argument("--version", action="version", version=f"quotabell {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, run, text in (
        ("serve", _serve, "run the daemon"),
        ("migrate", _migrate, "bring the database schema up to date, then end"),
        ("check-config", _check_config, "check the configuration and show what is in force"),
        ("recount", _recount, "count quotas anew from the events of their open periods"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        _add_config(command)
        if run is _serve:
            command.add_argument(
                "--greet", action="store_true", help="say on standard output what to do next"
            )
        if run is _recount:
            command.add_argument("quotas", nargs="*", metavar="QUOTA", help="default: all")
            command.add_argument(
                "--check", action="store_true", help="only compare; exit code 1 if they differ"
            )
        command.set_defaults(run=run)
    text = "try out notifications"
    push = commands.add_parser("push", help=text, description=text)
    text = "send a test message and say what becomes of it; exit code 0 if all of it was sent"
    test = push.add_subparsers(required=True, metavar="COMMAND").add_parser(
        "test", help=text, description=text
    )
    _add_config(test)
    test.add_argument("--user", default="", help="whose browsers (default: the operators')")
    test.add_argument("--channel", metavar="NAME", help="only this one; webpush: the browsers")
    test.add_argument(
        "--timeout", type=float, default=30.0, metavar="SECONDS", help="default: %(default)g"
    )
    test.set_defaults(run=_push_test)
    return parser


def _add_config(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-c",
        "--config",
        type=Path,
        metavar="FILE",
        help="YAML configuration (default: $QUOTABELL_CONFIG, else built-in defaults)",
    )


def _serve(config: Config, arguments: argparse.Namespace) -> int:
    async def run() -> None:
        stop, reload, ready = asyncio.Event(), asyncio.Event(), asyncio.Event()
        loop, serving = asyncio.get_running_loop(), asyncio.current_task()
        assert serving is not None

        def end() -> None:
            stop.set()
            if not ready.is_set():  # there is nobody to answer yet: give up the start
                serving.cancel()

        def greet(running: app.Running) -> None:
            gc.freeze()  # what was made at start stays: looking through it takes 50 ms each time
            ready.set()
            if arguments.greet:
                _greet(running)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, end)
        loop.add_signal_handler(signal.SIGHUP, reload.set)
        logging = log.configure(config.log.level, config.log.format)
        with logging.capture_stdlib():
            try:
                await app.serve(
                    config,
                    logging,
                    stop,
                    reload=reload,
                    reread=lambda: load(arguments.config, os.environ),
                    fault=faults.from_text(os.environ.get("QUOTABELL_CRASH_AT", "")),
                    on_ready=greet,
                )
            except asyncio.CancelledError:
                if not stop.is_set():
                    raise

    uvloop.run(run())
    return 0


def _greet(running: app.Running) -> None:
    print(
        f"""
Quotabell listens at {running.url}. Open it in a browser, press "Notify me", and report some usage:

  curl -X POST {running.url}/api/token-monitor/update -H 'Content-Type: application/json' \\
    -d '{{"provider":"grok","model":"grok-3","tokensUsed":1000,"tokenLimit":10000}}'

Prometheus scrapes {running.url}/metrics. Ctrl-C stops the daemon; the data stays.
""",
        flush=True,
    )


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
        async with _opened(config) as (database, logger):
            store = QuotaStore(database)
            if not arguments.check:
                counting = Counting(store, Metrics(), logger)
                await recount(store, counting, arguments.quotas, print)
            return await check(store, print)

    return 0 if uvloop.run(run()) else 1


def _push_test(config: Config, arguments: argparse.Namespace) -> int:
    async def run() -> bool:
        async with _opened(config) as (database, _):
            return await try_out(
                HistoryStore(database),
                ChannelStore(database),
                arguments.user,
                arguments.channel,
                print,
                patience=arguments.timeout,
            )

    return 0 if uvloop.run(run()) else 1


@contextlib.asynccontextmanager
async def _opened(config: Config) -> AsyncIterator[tuple[Database, log.Logger]]:
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


def _check_config(config: Config, arguments: argparse.Namespace) -> int:
    print(yaml.safe_dump(redacted(config), sort_keys=False, allow_unicode=True), end="")
    return 0
