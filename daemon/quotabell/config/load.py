"""Turns a file and the environment into a Config, or says everything that is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from quotabell.config import files, yamlfile
from quotabell.config.base import Section
from quotabell.config.fields import Place
from quotabell.config.model import Config, default_data_dir
from quotabell.config.problems import BROKEN, Loc, Problems, key_path
from quotabell.errors import ConfigError

_ORDER = list(Config.model_fields)
_SUPABASE = ("SUPABASE_SERVICE_ROLE_KEY", "SUPABASE_URL")


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration of ``path``, else of the file that QUOTABELL_CONFIG names, else defaults.

    Relative paths in the file are relative to the file. Raises ConfigError with every problem,
    one line each, by key path.
    """
    if path is None and environ.get("QUOTABELL_CONFIG"):
        path = Path(environ["QUOTABELL_CONFIG"])
    problems = Problems()
    raw: dict[str, Any] = {}
    place = Place(Path("/"), environ.get("HOME"))
    if path is not None:
        path = path.absolute()
        place = Place(path.parent, environ.get("HOME"))
        raw = yamlfile.parse(_text(path), str(path), environ, problems)
    raw = files.resolve(raw, Config, place, problems)
    _add_environment(raw, environ, problems)
    try:
        config = Config.model_validate(raw, context=place)
    except ValidationError as error:
        _collect(error, problems)
    if problems:
        raise ConfigError(problems.lines(_ORDER))
    return config


def _text(path: Path) -> str:
    try:
        return files.read_text(path, files.MAX_CONFIG_BYTES)
    except ValueError as error:
        raise ConfigError([str(error)]) from None


def _add_environment(raw: dict[str, Any], environ: Mapping[str, str], problems: Problems) -> None:
    raw.setdefault("data_dir", str(default_data_dir(environ)))
    database = raw.setdefault("database", {})
    if not isinstance(database, dict) or database.get("url", "") != "":
        return
    if environ.get("DATABASE_URL"):
        database["url"] = environ["DATABASE_URL"]
        problems.call(("database", "url"), "DATABASE_URL")
        return
    found = " and ".join(name for name in _SUPABASE if environ.get(name))
    if found:
        problems.add(
            ("database", "url"),
            f"is empty and DATABASE_URL is not set, only {found}, which DATABASE_URL replaces: "
            "set it to the project's Postgres connection string (Supabase project settings, "
            "Database); the service role key is no database password. To use the embedded "
            "server, unset "
            f"{found}",
        )


def _collect(error: ValidationError, problems: Problems) -> None:
    for e in error.errors(include_url=False, include_context=False):
        loc, kind = e["loc"], e["type"]
        if e["input"] is BROKEN:
            continue
        if kind == "missing" and f"{loc[-1]}_file" in _fields(loc[:-1]):
            problems.add(loc[:-1], f"needs {loc[-1]} or {loc[-1]}_file")
        elif kind == "missing":
            problems.add(loc, "is missing")
        elif kind == "extra_forbidden":
            problems.add(loc, _unknown(str(loc[-1]), loc[:-1]))
        else:
            problems.add(loc, _in_words(e["msg"], kind, e["input"]))


def _in_words(message: str, kind: str, value: object) -> str:
    """What pydantic says, without its Python words and without the value."""
    if kind == "string_type":
        number = isinstance(value, bool | int | float)
        return "must be text" + ("; put it in quotes" if number else "")
    if kind in ("tuple_type", "list_type"):
        return "must be a list"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "must be a mapping"
    return message.removeprefix("Value error, ").replace("Input should be", "must be")


def _fields(loc: Loc) -> dict[str, Any]:
    """The keys that the section at ``loc`` knows, with their sections (or None)."""
    model: type[Section] = Config
    for part in loc:
        if isinstance(part, str):
            inner = files.nested(model.model_fields[part].annotation)
            if inner is None:
                return {}
            model = inner
    return {name: files.nested(field.annotation) for name, field in model.model_fields.items()}


def _unknown(key: str, loc: Loc) -> str:
    known = _fields(loc)
    text = "is no known key"
    if ":" in key:
        return f"{text}; is a space missing after the colon?"
    if close := difflib.get_close_matches(key[:64], known, n=1):
        return f"{text}; did you mean {close[0]}?"
    if elsewhere := next((p for p in every_key(Config) if p[-1] == key), None):
        return f"{text}; did you mean {key_path(elsewhere)}?"
    return f"{text}; known here: {', '.join(known)}"


def every_key(model: type[Section], loc: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every key, sections included, without list indices."""
    for name, field in model.model_fields.items():
        yield (*loc, name)
        if inner := files.nested(field.annotation):
            yield from every_key(inner, (*loc, name))
