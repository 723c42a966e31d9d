"""``quotabell check-config``."""

from __future__ import annotations

import argparse

import yaml

from quotabell.cli.command import Commands, add_config, configured
from quotabell.config import Config, redacted


def register(commands: Commands) -> None:
    text = "check the configuration and show what is in force"
    command = commands.add_parser("check-config", help=text, description=text)
    add_config(command)
    command.set_defaults(run=configured(_check_config))


def _check_config(config: Config, arguments: argparse.Namespace) -> int:
    print(yaml.safe_dump(redacted(config), sort_keys=False, allow_unicode=True), end="")
    return 0
