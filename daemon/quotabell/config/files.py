"""Reads the small files of the configuration: the file itself and those that hold secrets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

from quotabell.config.base import Section
from quotabell.config.fields import Place
from quotabell.config.problems import BROKEN, Loc, Problems, key_path

MAX_CONFIG_BYTES = 1024 * 1024
MAX_SECRET_BYTES = 64 * 1024


def read_bytes(path: Path, limit: int) -> bytes:
    """What a file of at most ``limit`` bytes holds; raises ValueError saying why not."""
    try:
        if path.is_fifo():
            raise ValueError(f"{path} is a pipe")  # reading it could wait for ever
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > limit:
        raise ValueError(f"{path} is larger than {limit} bytes")
    return data


def read_text(path: Path, limit: int) -> str:
    """The text of such a file."""
    try:
        return read_bytes(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text") from None


def nested(annotation: Any) -> type[Section] | None:
    """The section in ``Section``, ``Section | None`` or ``tuple[Section, ...]``."""
    if get_origin(annotation) in (tuple, UnionType):
        annotation = get_args(annotation)[0]
    return annotation if isinstance(annotation, type) and issubclass(annotation, Section) else None


def resolve(
    raw: Mapping[str, Any], model: type[Section], place: Place, problems: Problems, loc: Loc = ()
) -> dict[str, Any]:
    """``raw`` with every ``x_file`` read into ``x``, empty sections {} and no empty values.

    A key without a value is an error except for sections: an empty ``user:`` must not turn a
    user's token into one for everybody.
    """
    resolved: dict[str, Any] = {}
    for key, value in raw.items():
        field = model.model_fields.get(key)
        resolved[key] = value
        if field is not None:
            resolved[key] = _resolved(value, field.annotation, place, problems, (*loc, key))
    for key in model.model_fields:
        if f"{key}_file" in model.model_fields:
            _read_secret(resolved, key, place, problems, loc)
    return resolved


def _resolved(value: Any, annotation: Any, place: Place, problems: Problems, loc: Loc) -> Any:
    section, in_list = nested(annotation), get_origin(annotation) is tuple
    if value is None and (section is None or in_list):
        problems.add(loc, "has no value; give one or remove the key")
        return BROKEN
    if section is None:
        return value
    if in_list and isinstance(value, list):
        return [
            resolve(item, section, place, problems, (*loc, i)) if isinstance(item, dict) else item
            for i, item in enumerate(value)
        ]
    if value is None or (isinstance(value, dict) and not in_list):
        return resolve(value or {}, section, place, problems, loc)
    return value


def _read_secret(raw: dict[str, Any], key: str, place: Place, problems: Problems, loc: Loc) -> None:
    named = f"{key}_file"
    if named not in raw:
        return
    if raw.get(key, "") != "":
        problems.add(loc, f"has both {key} and {named}; keep one")
        return
    raw[key] = BROKEN
    if not isinstance(raw[named], str):
        return
    try:
        text = read_text(place.locate(raw[named]), MAX_SECRET_BYTES).strip()
        if not text:
            raise ValueError(f"{place.locate(raw[named])} is empty")
        raw[key] = text
    except ValueError as error:
        problems.add((*loc, named), str(error))
        raw[named] = BROKEN
    problems.call((*loc, key), key_path((*loc, named)))
