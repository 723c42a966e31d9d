"""Where the configuration comes from, and that all of its problems are told at once."""

from __future__ import annotations

import os
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any, get_origin

import pytest
import yaml

from quotabell.config import Address, Auth, Config, Database, Ingest, Token, load
from quotabell.config.files import nested
from quotabell.config.model import default_data_dir
from quotabell.errors import ConfigError

CANARY = "CANARY-0123456789"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def problems_of(path: Path | None, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ or {})
    return list(caught.value.problems)


def test_without_a_file_everything_has_its_default() -> None:
    config = load(None, {"HOME": "/home/bell"})

    assert config.listen == Address("127.0.0.1", 3001)
    assert config.database.embedded
    assert config.auth.tokens == ()
    assert config.ingest.future_skew == timedelta(minutes=5)
    assert config.thresholds.default == (75, 90, 100)


def test_an_empty_file_is_the_same_as_none(tmp_path: Path) -> None:
    empty = write(tmp_path / "empty.yml", "")

    assert load(empty, {"HOME": "/home/bell"}) == load(None, {"HOME": "/home/bell"})


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    named = write(tmp_path / "named.yml", "log: {level: debug}")
    given = write(tmp_path / "given.yml", "log: {level: error}")

    assert load(None, {"QUOTABELL_CONFIG": str(named)}).log.level == "debug"
    assert load(given, {"QUOTABELL_CONFIG": str(named)}).log.level == "error"


def test_the_data_directory_of_root_is_outside_its_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir({"HOME": "/root"}) == Path("/var/lib/quotabell")
    assert load(None, {"HOME": "/root"}).data_dir == Path("/var/lib/quotabell")

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert load(None, {"HOME": "/home/bell"}).data_dir == Path("/home/bell/.local/share/quotabell")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "cannot read {path}: No such file or directory"),
        (b"log: \xff", "{path} is not UTF-8 text"),
        (b"log: \x01", "{path}: holds a character that YAML does not allow"),
        (b"#" * (1024 * 1024 + 1), "{path} is larger than 1048576 bytes"),
        (b"[" * 500, "{path}: is nested too deeply"),
    ],
)
def test_an_unusable_file_is_told_by_name(
    tmp_path: Path, content: bytes | None, problem: str
) -> None:
    path = tmp_path / "quotabell.yml"
    if content is not None:
        path.write_bytes(content)

    assert problems_of(path) == [problem.format(path=path)]


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "quotabell.yml"
    path.write_bytes(b"\xef\xbb\xbflog: {level: debug}")

    assert load(path, {}).log.level == "debug"


def test_a_token_is_read_from_its_file_without_the_line_break(tmp_path: Path) -> None:
    write(tmp_path / "secret", f"{CANARY}\n")
    path = write(
        tmp_path / "quotabell.yml",
        "auth: {tokens: [{name: a, token_file: secret, scopes: [ingest]}]}",
    )

    (token,) = load(path, {}).auth.tokens

    assert token.token.get_secret_value() == CANARY
    assert token.token_file == tmp_path / "secret"


def test_a_file_with_two_tokens_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "secret", f"{CANARY}\n{CANARY}\n")
    path = write(
        tmp_path / "quotabell.yml",
        "auth: {tokens: [{name: a, token_file: secret, scopes: [ingest]}]}",
    )

    (problem,) = problems_of(path)

    assert problem.startswith("auth.tokens[0].token_file: must be visible ASCII characters")


def test_the_same_token_inline_and_in_a_file_is_found(tmp_path: Path) -> None:
    write(tmp_path / "secret", CANARY)
    path = write(
        tmp_path / "quotabell.yml",
        "auth: {tokens: [{name: a, token: " + CANARY + ", scopes: [ingest]},"
        " {name: b, token_file: secret, scopes: [read]}]}",
    )

    assert problems_of(path) == [
        "auth.tokens[1].token_file: is the token of auth.tokens[0] already"
    ]


def test_a_database_url_is_read_from_its_file(tmp_path: Path) -> None:
    write(tmp_path / "url", "postgres://u:p%40ss@h/d\n")
    path = write(tmp_path / "quotabell.yml", "database: {url_file: url}")

    database = load(path, {"DATABASE_URL": "postgres://other/d"}).database

    assert database.url.get_secret_value() == "postgres://u:p%40ss@h/d"
    assert not database.embedded


def test_listening_can_be_switched_off(tmp_path: Path) -> None:
    assert not load(None, {}).database.polls
    for text in ("off", '"off"'):
        path = write(tmp_path / "quotabell.yml", f"database: {{listen_url: {text}}}")
        assert load(path, {}).database.polls


def leaves(model: Any = Config, loc: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key below the sections; keys of list items are left out."""
    found = []
    for name, field in model.model_fields.items():
        inner = nested(field.annotation)
        if inner is not None and get_origin(field.annotation) is not tuple:
            found += leaves(inner, (*loc, name))
        else:
            found.append((*loc, name))
    return found


def test_a_wrong_value_of_every_key_is_told_at_once(tmp_path: Path) -> None:
    wrong: dict[str, Any] = {}
    for *sections, key in leaves():
        inner = wrong
        for section in sections:
            inner = inner.setdefault(section, {})
        if not key.endswith("_file"):  # it excludes its sibling
            inner[key] = 7 if key == "aliases" else {"no": "such value"}
    path = write(tmp_path / "quotabell.yml", yaml.safe_dump(wrong))

    told = {problem.partition(": ")[0] for problem in problems_of(path)}

    wanted = {".".join(leaf) for leaf in leaves() if not leaf[-1].endswith("_file")}
    assert told == wanted | {"tls.cert_file", "tls.key_file"}  # not to be left out


def test_problems_come_in_the_order_of_the_sections(tmp_path: Path) -> None:
    path = write(
        tmp_path / "quotabell.yml",
        "zzz: 1\nlog: {level: x}\nauth: {tokens: [" + "1, " * 11 + "]}\nlisten: x\n",
    )

    told = [problem.partition(": ")[0] for problem in problems_of(path)]

    assert told == ["listen", *(f"auth.tokens[{i}]" for i in range(11)), "log.level", "zzz"]


def test_a_secret_in_the_environment_is_never_shown(tmp_path: Path) -> None:
    environ = {
        "DATABASE_URL": f"postgres://u:{CANARY}/x@h/d",
        "SUPABASE_SERVICE_ROLE_KEY": CANARY,
        "TOKEN": f"{CANARY} with a space",
    }
    path = write(
        tmp_path / "quotabell.yml",
        "auth: {tokens: [{name: a, token: '${TOKEN}', scopes: [ingest]}]}",
    )

    with pytest.raises(ConfigError) as caught:
        load(path, environ)

    assert len(caught.value.problems) == 2
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_path_that_the_system_refuses_is_a_problem_too(tmp_path: Path) -> None:
    long = "x" * 300
    path = write(
        tmp_path / "quotabell.yml",
        f"push: {{key_files: [{long}]}}\ndata_dir: '~nobody-of-that-name/x'\n"
        f"database: {{url_file: {long}}}\n",
    )

    assert problems_of(path) == [
        "data_dir: ~ cannot be resolved: no such home directory",
        f"database.url_file: cannot read {tmp_path / long}: File name too long",
        f"push.key_files[0]: cannot read {tmp_path / long}: File name too long",
    ]


def test_a_configuration_cannot_be_changed() -> None:
    config = load(None, {})
    with pytest.raises(ValueError, match="frozen"):
        config.ingest.max_batch = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    "build",
    [
        lambda: Config(listen="0.0.0.0:1"),
        lambda: Config(listen=Address("::", 1), auth=Auth()),
        lambda: Ingest(max_batch=10, max_pending=9),
        lambda: Database(url=f"mysql://{CANARY}@h/d"),
        lambda: Token(name="a", token=CANARY, scopes=["admin"], user="alice"),
        lambda: Auth(tokens=[Token(name="a", token=CANARY, scopes=["read"])] * 2),
    ],
    ids=["listen", "listen-parts", "ingest", "database", "token", "auth"],
)
def test_the_rules_hold_without_a_file_too(build: Any) -> None:
    with pytest.raises(ValueError, match="validation error") as caught:
        build()
    assert CANARY not in str(caught.value)
