"""One tiny file per rule: what it must give, or every problem that must be told.

The first lines of a file say it: ``# expect:`` a problem, ``# gives: key = JSON`` a value of
the redacted configuration, ``# env: NAME=value`` the environment. A value with CANARY in it is
a secret, wherever it stands.
"""

from __future__ import annotations

import json
import re
import traceback
from pathlib import Path
from typing import Any

import pytest

from quotabell.config import Config, load, redacted
from quotabell.errors import ConfigError

TESTDATA = Path(__file__).parent / "testdata"
FILES = sorted(TESTDATA.glob("*.yml"))


def directives(path: Path, kind: str) -> list[str]:
    text = path.read_text(encoding="utf-8")
    found = re.findall(rf"^# {kind}: (.*)$", text, re.MULTILINE)
    return [line.replace("{file}", str(path)).replace("{dir}", str(TESTDATA)) for line in found]


def environ(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in directives(path, "env"))


def value_at(data: Any, path: str) -> Any:
    for key in re.findall(r"\w+", path):
        data = data[int(key) if key.isdigit() else key]
    return data


def outcome(path: Path) -> Config | ConfigError:
    try:
        return load(path, environ(path))
    except ConfigError as error:
        return error


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_gives_exactly_its_values_or_its_problems(path: Path) -> None:
    expected, gives = directives(path, "expect"), directives(path, "gives")
    assert expected or gives, "the file must say what it shows"

    found = outcome(path)

    if isinstance(found, ConfigError):
        assert sorted(found.problems) == sorted(expected)
    else:
        assert expected == []
        for line in gives:
            key, _, value = line.partition(" = ")
            assert value_at(redacted(found), key) == json.loads(value)


@pytest.mark.parametrize(
    "path", [p for p in FILES if "CANARY" in p.read_text()], ids=lambda path: path.stem
)
def test_a_secret_is_never_shown(path: Path) -> None:
    found = outcome(path)

    if isinstance(found, ConfigError):
        shown = [str(found), repr(found), *found.problems, *traceback.format_exception(found)]
    else:
        shown = [str(found), repr(found), str(found.model_dump()), found.model_dump_json()]
        shown += [json.dumps(redacted(found)), repr(found.database), repr(found.auth.tokens)]
    assert [text for text in shown if "CANARY" in text] == []


def test_every_problem_names_a_key_or_the_file() -> None:
    for path in FILES:
        for problem in directives(path, "expect"):
            assert re.match(r"[a-z_]+[\w.\[\]':…-]*: |DATABASE_URL: |/", problem), problem
