"""The parser, put together of all groups of commands, and what an error's exit code is."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence

from quotabell import __version__
from quotabell.cli import (
    alerts,
    backup,
    config,
    database,
    demo,
    explain,
    people,
    push,
    report,
    serve,
    silences,
    status,
    thresholds,
)
from quotabell.cli.exits import EX_CONFIG, EX_UNAVAILABLE, FAILED, INTERRUPTED, CommandFailed
from quotabell.errors import ConfigError, QuotabellError, SchemaTooNew, Unavailable

GROUPS = (
    serve,
    demo,
    status,
    report,
    explain,
    alerts,
    thresholds,
    silences,
    push,
    config,
    database,
    people,
    backup,
)

_WHERE = "Is Postgres running, and does database.url or DATABASE_URL lead to it?"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    for stream in (sys.stdout, sys.stderr):
        # Names come from whoever reports; one that the terminal has no letters for ends nothing.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except CommandFailed as error:
        return _fail(error, error.code)
    except (ConfigError, SchemaTooNew) as error:
        return _fail(error, EX_CONFIG)
    except Unavailable as error:
        print(f"quotabell: {error}\n{_WHERE}", file=sys.stderr)
        return EX_UNAVAILABLE
    except QuotabellError as error:
        return _fail(error, FAILED)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has seen enough; without this the interpreter complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def parser() -> argparse.ArgumentParser:
    """The parser of every command; each sets ``run``."""
    parser = argparse.ArgumentParser(
        prog="quotabell",
        description="Watches LLM token quotas and rings before they run out.",
        epilog="Exit codes: 0 done, 1 failed or the answer is no, 2 wrong arguments, 65 input "
        "refused, 66 file not readable, 69 daemon or database away, 73 file not writable, 77 token "
        "missing or not enough, 78 configuration wrong.",
    )
    parser.add_argument("--version", action="version", version=f"quotabell {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for group in GROUPS:
        group.register(commands)
    return parser


def _fail(error: QuotabellError, code: int) -> int:
    print(f"quotabell: {error}", file=sys.stderr)
    return code
