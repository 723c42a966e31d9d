"""A body told apart into its items: one, an array, or a line each (NDJSON).

Senders of NDJSON often declare it as ``application/json``, so it is also recognised by its
looks. Each item keeps its own JSON, so that a wrong one can be refused alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from quotabell.errors import FieldError, Malformed, Rejected, TooLarge
from quotabell.formats import json_text
from quotabell.formats.json_reader import LARGE, Body, Reader

_SOLID = re.compile(rb"[^ \t\r\n]")
_NEWLINE = re.compile(rb"\n")
_ELEMENT = re.compile(r"[^ \t\r\n,]")


def bounded(items: int, max_batch: int) -> None:
    """Raises Rejected for no items, or more than ``max_batch``."""
    if not items:
        raise Rejected([FieldError("", "the array is empty")])
    if items > max_batch:
        raise Rejected([FieldError("", f"{items} items; at most {max_batch} at once")])


def apart(body: bytes, max_batch: int) -> list[bytes] | bytes:
    """The JSON of each item of an array or of NDJSON, or that of the one item.

    NDJSON is what is no JSON as a whole, does not begin as an array, and has a line that is an
    object. Raises Malformed for what is neither, Rejected for no items or more than
    ``max_batch``, TooLarge for too many values.
    """
    try:
        value, _ = json_text.parse(body)
        if not isinstance(value, list):
            return body
        bounded(len(value), max_batch)
        return list(_elements(body.decode()))
    except (Malformed, TooLarge):
        if _looks_like_lines(body, max_batch):
            return lines(body, max_batch)
        raise
    except RecursionError:
        raise Malformed("the JSON is nested too deeply") from None


def each(body: Body, max_batch: int) -> Iterator[bytes]:
    """As `apart`, in small steps: the JSON of one item after the other.

    Other threads run between them. Raises Malformed for what is broken as a whole, Rejected for
    more than ``max_batch``, both possibly after some items.
    """
    reader = Reader(body)
    begin = reader.peek()
    if not begin:
        raise Malformed("the body is empty")
    if begin == "[":
        yield from elements(reader, max_batch)
        if reader.peek():
            raise Malformed("broken JSON: something follows the array")
        return
    try:
        item = reader.raw()
        is_one = not reader.peek()
    except Malformed:
        if begin != "{" or not _looks_like_lines(body, max_batch):
            raise
        is_one = False
    if is_one:
        yield item
    else:
        yield from lines(body, max_batch)


def elements(reader: Reader, max_batch: int) -> Iterator[bytes]:
    """The JSON of each element of an array; Rejected for more than ``max_batch``."""
    for found, _ in enumerate(reader.elements()):
        if found == max_batch:
            raise Rejected([_too_many(max_batch)])
        yield reader.raw()


def _too_many(max_batch: int) -> FieldError:
    return FieldError("", f"more than {max_batch} items at once")


def lines(body: Body, max_batch: int) -> list[bytes]:
    """The lines that are not blank, whatever is in them.

    Raises Malformed if there is none, Rejected for more than ``max_batch``.
    """
    found = list(islice(_lines(body), max_batch + 1))
    if not found:
        raise Malformed("the body is empty")
    if len(found) > max_batch:
        raise Rejected([_too_many(max_batch)])
    return found


def _lines(body: Body) -> Iterator[bytes]:
    """Many blank lines cost no more than their bytes."""
    end = 0
    while begin := _SOLID.search(body, end):
        newline = _NEWLINE.search(body, begin.end())
        end = newline.start() if newline else len(body)
        yield _line(body[begin.start() : end])


def _line(line: Body) -> bytes:
    """A line; if it is large, without its long texts, so that it is decoded in a moment."""
    if len(line) > LARGE:
        with suppress(Malformed):
            return Reader(line).raw()
    return bytes(line)


def _elements(text: str) -> Iterator[bytes]:
    """The elements of an array that is known to be right."""
    scan = json.JSONDecoder().raw_decode
    end = text.index("[") + 1
    while (begin := _ELEMENT.search(text, end)) and begin.group() != "]":
        _, end = scan(text, begin.start())
        yield text[begin.start() : end].encode()


def _looks_like_lines(body: Body, max_batch: int) -> bool:
    first = _SOLID.search(body)
    if first is None or first[0] == b"[":
        return False
    return any(_is_object(line) for line in islice(_lines(body), max_batch))


def _is_object(line: bytes) -> bool:
    if not line.startswith(b"{"):
        return False
    try:
        json_text.parse(line)
    except (Malformed, TooLarge):
        return False
    return True
