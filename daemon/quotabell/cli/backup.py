"""``quotabell backup`` and ``restore``."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from quotabell import log
from quotabell.channels.vapid import KEY_FILE, VapidKey
from quotabell.cli.command import Commands, add_config, configured, opened
from quotabell.cli.exits import EX_CANTCREAT, EX_DATAERR, EX_NOINPUT, FAILED, OK, CommandFailed
from quotabell.cli.terminal import cut, terminal
from quotabell.config import Config
from quotabell.store.backup import BadBackup, FileInTheWay, Progress, back_up
from quotabell.store.push import PushStore
from quotabell.store.reach import reached
from quotabell.store.restore import put_back, verify


def register(commands: Commands) -> None:
    text = "write the whole database to a file, while daemons run or not"
    command = commands.add_parser(
        "backup",
        help=text,
        description=text,
        epilog="The file appears when it is complete, readable by its owner only. The private key "
        "of Web Push is not in the database: keep data_dir/vapid.pem or push.key_files as well, "
        "or every browser has to subscribe anew.",
    )
    add_config(command)
    command.add_argument("file", type=Path, metavar="FILE", help="must not exist yet")
    command.add_argument(
        "--verify",
        action="store_true",
        help="restore it into a scratch database and compare rows and checksums of every table",
    )
    command.set_defaults(run=configured(_backup))

    text = "put a backup into an empty database"
    command = commands.add_parser("restore", help=text, description=text)
    add_config(command)
    command.add_argument("file", type=Path, metavar="FILE", help="written by backup")
    command.set_defaults(run=configured(_restore))


def _backup(config: Config, arguments: argparse.Namespace) -> int:
    path = arguments.file.absolute()

    async def run() -> int:
        logger = log.configure("warning", config.log.format).get_logger()
        url = config.database.url.get_secret_value()
        if path.exists() or path.is_symlink():
            raise FileInTheWay(f"{path} is there already; name another file, or move it away")
        async with reached(url, config.data_dir, logger) as dsn:
            made = await back_up(dsn, path, _progress("saving"), summed=arguments.verify)
            _clear()
            size = (
                f"{made.size / 1024:.0f} KiB" if made.size < 1 << 20 else f"{made.size >> 20} MiB"
            )
            print(f"{path}: {size}, of Postgres {made.server}, schema {made.schema}")
            if arguments.verify:
                wrong = await verify(dsn, path, made.sums, _progress("restoring"))
                _clear()
                for line in wrong:
                    print(line, file=sys.stderr)
                if wrong:
                    print("The backup differs from the database.", file=sys.stderr)
                    return FAILED
                rows = sum(s.rows for s in made.sums.values())
                print(f"verified: {len(made.sums)} tables, {rows} rows, restored the same")
        keys = [*config.push.key_files] or [config.data_dir / KEY_FILE]
        print(f"Keep the Web Push key as well: {', '.join(map(str, keys))}")
        return OK

    return _ended(run)


def _restore(config: Config, arguments: argparse.Namespace) -> int:
    path = arguments.file.absolute()

    async def run() -> int:
        logger = log.configure("warning", config.log.format).get_logger()
        url = config.database.url.get_secret_value()
        try:
            path.open("rb").close()
        except OSError as error:
            raise CommandFailed(f"{path}: {error.strerror}", EX_NOINPUT) from None
        async with reached(url, config.data_dir, logger) as dsn:
            done = await put_back(dsn, path, _progress("restoring"))
            _clear()
        print(f"{path} is restored")
        if done.left_out:
            print(f"without the rights of roles that are not here: {', '.join(done.left_out)}")
        for line in await _keys(config):
            print(line)
        return OK

    return _ended(run)


def _ended(run: Callable[[], Coroutine[Any, Any, int]]) -> int:
    try:
        return asyncio.run(run())
    except FileInTheWay as error:
        raise CommandFailed(str(error), EX_CANTCREAT) from None
    except BadBackup as error:
        raise CommandFailed(str(error), EX_DATAERR) from None


async def _keys(config: Config) -> list[str]:
    """What to do if browsers are subscribed with a key that is not here."""
    files = [*config.push.key_files] or [config.data_dir / KEY_FILE]
    here = [VapidKey.load(file).id for file in files if file.exists()]
    async with opened(config) as (database, _):
        missing = await PushStore(database).missing_keys(here)
    if not missing:
        return []
    place = "push.key_files" if config.push.key_files else str(config.data_dir / KEY_FILE)
    return [
        f"The private part of the Web Push key {', '.join(sorted(missing))} is not here: put its "
        f"file back ({place}); no daemon starts on this database without it."
    ]


def _progress(doing: str) -> Progress:
    """Shows what is under way, if somebody watches."""
    shown = sys.stderr.isatty()
    width = terminal(sys.stderr).width

    def progress(table: str, done: int, of: int) -> None:
        if shown:
            line = f"{doing} {done}{f' of {of}' if of else ''}: {table}"
            print(f"\r\x1b[K{cut(line, width - 1)}", end="", file=sys.stderr, flush=True)

    return progress


def _clear() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
