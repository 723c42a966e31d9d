"""The command line: owns arguments, signals and exit codes; `app` and `service` own the rest.

One module a group of commands, each with a ``register`` that adds them to the parser.
"""

from quotabell.cli.entry import main

__all__ = ["main"]
