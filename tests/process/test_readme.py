"""The section of the README about commands, kept true by running it."""

from __future__ import annotations

import argparse
import json
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from quotabell.cli import exits
from quotabell.cli.entry import parser
from quotabell.config import load
from tests.process.program import Done
from tests.process.terminal import command
from tests.support import daemon
from tests.support.load import steady_port
from tests.support.postgres import Database

README = Path(__file__).parents[2] / "README.md"
SECTION = README.read_text(encoding="utf-8").split("\n## Commands\n")[1].split("\n## ")[0]


def commands(
    of: argparse.ArgumentParser, before: tuple[str, ...] = ()
) -> Iterator[tuple[str, ...]]:
    """Every command, and those of groups behind their group."""
    for action in of._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield (*before, name)
                yield from commands(inner, (*before, name))


def test_every_command_is_in_the_table() -> None:
    table = dict(re.findall(r"^\| `([a-z-]+)` \| (.*) \|$", SECTION, re.MULTILINE))
    known = list(commands(parser()))

    assert set(table) == {path[0] for path in known}
    for group, verb in (path for path in known if len(path) == 2):
        assert f"`{verb}`" in table[group], f"{group} {verb}"


@pytest.mark.parametrize("path", list(commands(parser())), ids=" ".join)
async def test_every_command_explains_itself(path: tuple[str, ...]) -> None:
    done = await command(*path, "--help")

    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"usage: quotabell {' '.join(path)} ")


def test_every_exit_code_is_in_the_table() -> None:
    table = re.findall(r"^\| (\d+) \|", SECTION, re.MULTILINE)
    argparse_own = 2
    codes = {value for value in vars(exits).values() if isinstance(value, int)}

    assert set(map(int, table)) == codes | {argparse_own}


async def test_the_examples_say_what_the_commands_say(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = daemon.write_config(tmp_path, database.tcp_dsn, listen=f"127.0.0.1:{steady_port()}")
    monkeypatch.chdir(tmp_path)
    call = {"provider": "openai", "model": "gpt-5", "userId": "ada", "outputTokens": 200}
    time = datetime.now(UTC).isoformat()
    lines = [call | {"id": f"call-{n}", "time": time, "inputTokens": 1000} for n in (1, 2)]
    Path("events.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    examples = SECTION.split("```console\n")[1].split("```")[0]
    async with daemon.running(load(config, {})):
        for example in examples.strip().split("\n\n$ "):
            line, _, said = example.removeprefix("$ ").partition("\n")

            done = await _run(line, {"QUOTABELL_CONFIG": str(config)})

            assert (done.code, done.err) == (0, ""), (line, done)
            assert re.fullmatch(_pattern(said), done.out.strip(), re.DOTALL), (line, done.out)
    assert "usage_events" in Path("ada.ndjson").read_text()


async def _run(line: str, environment: dict[str, str]) -> Done:
    """A line of a shell, with ``<`` and ``>`` at its end."""
    name, *words = shlex.split(line)
    assert name == "quotabell"
    stdin, into = b"", None
    if "<" in words:
        stdin, words = Path(words[-1]).read_bytes(), words[:-2]
    elif ">" in words:
        into, words = Path(words[-1]), words[:-2]
    done = await command(*words, stdin=stdin, environment=environment)
    if into is not None:
        into.write_text(done.out)
        return Done(done.code, "", done.err)
    return done


def _pattern(said: str) -> str:
    """A … stands for anything."""
    return re.escape(said.strip()).replace("…", ".*")
