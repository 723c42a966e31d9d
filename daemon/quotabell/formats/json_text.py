"""JSON as it arrives from strangers: strict, bounded, every fault with its place."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from pydantic import ValidationError

from quotabell.errors import FieldError, Malformed, TooLarge

MAX_VALUES = 2_000_000  # 32 MiB of "[[],[],…" would take a gigabyte as objects
_PIECE = 1024 * 1024

TIMES: tuple[Any, ...] = (
    {"type": "string", "format": "date-time"},
    {"type": "number"},
    {"type": "null"},
)
"""What a time of a report may be, as JSON Schema."""


class NotANumber(float):
    """Stands for NaN, Infinity and -Infinity, which JSON does not have (RFC 8259 §6)."""


def bounded(body: bytes) -> None:
    """Raises TooLarge for more than some `MAX_VALUES` values.

    Counted piece by piece: other threads do not run while one is counted.
    """
    values = 0
    for start in range(0, len(body), _PIECE):
        piece = body[start : start + _PIECE] if len(body) > _PIECE else body
        values += piece.count(b",") + piece.count(b"{") + piece.count(b"[")
        if values > MAX_VALUES:
            raise TooLarge("the body holds too many values")


def parse(body: bytes) -> tuple[Any, bool]:
    """The value, and whether all of it was JSON apart from NaN or Infinity in it.

    NaN is let through as a value that no number type accepts, so that the answer can name
    its field. Raises Malformed for anything else that is not JSON, TooLarge for more than
    some `MAX_VALUES` values.
    """
    bounded(body)
    strict = True

    def constant(_: str) -> NotANumber:
        nonlocal strict
        strict = False
        return NotANumber("nan")

    try:
        value = json.loads(body.decode("utf-8-sig"), parse_constant=constant)
    except RecursionError:
        raise Malformed("the JSON is nested too deeply") from None
    except UnicodeDecodeError:
        raise Malformed("the body is not UTF-8") from None
    except json.JSONDecodeError as error:
        _malformed(error)
    except ValueError:
        # CPython bounds the digits of an integer literal.
        raise Malformed("a number has too many digits") from None
    return value, strict


def _malformed(error: json.JSONDecodeError) -> NoReturn:
    if not error.doc.strip():
        raise Malformed("the body is empty") from None
    raise Malformed(
        f"broken JSON: {error.msg} at line {error.lineno} column {error.colno}"
    ) from None


def field_errors(error: ValidationError, index: int | None = None) -> list[FieldError]:
    """Pydantic's findings as field errors, in the words of the sender."""
    found = []
    for item in error.errors(include_url=False, include_context=False, include_input=False):
        message = item["msg"].removeprefix("Value error, ")
        path = ".".join(str(part) for part in item["loc"])
        found.append(FieldError(path, message[:1].lower() + message[1:], index))
    return found
