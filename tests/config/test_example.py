"""config.example.yaml shows every key, each with its default, and nothing else."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from quotabell.config import Config, load, redacted
from quotabell.config.load import every_key
from tests.support.certificates import Authority

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


def with_examples() -> str:
    """The file with its commented-out keys made real."""
    lines = EXAMPLE.read_text(encoding="utf-8").split("\n")
    inside = False
    result = []
    for line in lines:
        example = re.match(r"^( *)#([a-z_]+:.*)$", line)
        item = re.match(r"^( *)#(  .*)$", line) if inside else None
        inside = bool(example or item)
        match = example or item
        result.append(match[1] + match[2] if match else line)
    return "\n".join(result)


def keys_in(data: Any, loc: str = "") -> set[str]:
    if isinstance(data, dict):
        found = {f"{loc}.{key}".lstrip(".") for key in data}
        return found.union(*(keys_in(value, f"{loc}.{key}") for key, value in data.items()))
    if isinstance(data, list):
        return set().union(*(keys_in(item, loc) for item in data))
    return set()


def values_in(data: Any, loc: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(data, dict):
        return {loc: data}
    found: dict[tuple[str, ...], Any] = {}
    for key, value in data.items():
        found |= values_in(value, (*loc, key))
    return found


def test_the_example_is_all_defaults() -> None:
    environ = {"HOME": "/home/bell"}

    assert load(EXAMPLE, environ) == load(None, environ)


def test_every_key_of_the_model_is_in_the_example_and_none_besides() -> None:
    expected = {".".join(loc) for loc in every_key(Config)}

    assert keys_in(yaml.safe_load(with_examples())) == expected


def test_every_value_that_stands_there_is_the_default_as_it_is_shown() -> None:
    defaults = values_in(redacted(load(None, {})))
    written = values_in(yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")))

    for key, value in written.items():
        assert defaults[key] == value, key
    only_examples = {".".join(key) for key in defaults.keys() - written.keys()}
    assert only_examples == {
        "data_dir",  # depends on who runs it
        "tls",
        "auth.tokens",
        "auth.jwt",
        "database.url_file",
        "database.listen_url_file",
        "quotas",
        "channels",
        "alerts.heartbeat_url_file",
        "sources.logs",
        "sources.metrics",
        "sources.signals",
        "sources.stale",
    }


def test_every_key_has_a_comment_right_above_its_group() -> None:
    lines = EXAMPLE.read_text(encoding="utf-8").split("\n")
    sections = {name for name in Config.model_fields if f"{name}:" in lines}
    undocumented = []
    for above, line in pairwise(lines):
        match = re.match(r"^ *#?([a-z_]+):", line)
        if match and match[1] not in sections and not above.strip().startswith("# "):
            undocumented.append(match[1])
    assert undocumented == []


def test_the_examples_in_it_work(tmp_path: Path) -> None:
    for name, text in {
        "database-url": "postgres://quotabell:secret@127.0.0.1/quotabell",
        "database-listen-url": "postgres://quotabell:secret@127.0.0.1/quotabell",
        "ingest": "0123456789abcdef",
        "heartbeat-url": "https://health.example.com/ping/0123",
        "jwt": "0123456789abcdef" * 2,
        "chat-url": "json://127.0.0.1/chat",
        "pager": "whsec_" + "cGFnZXI" * 6,
    }.items():
        (tmp_path / name).write_text(text)
    authority = Authority()
    authority.issue("localhost").write(tmp_path / "tls.crt", tmp_path / "tls.key")
    path = tmp_path / "quotabell.yaml"
    path.write_text(with_examples().replace("/run/secrets", str(tmp_path)), encoding="utf-8")

    config = load(path, {"ALICE_TOKEN": "fedcba9876543210"})

    assert [(t.name, t.user) for t in config.auth.tokens] == [("apps", None), ("alice", "alice")]
    assert not config.database.embedded
