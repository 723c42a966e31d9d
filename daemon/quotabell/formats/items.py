"""A body told apart into its items: one, an array, or a line each (NDJSON).

Senders of NDJSON often declare it as ``application/json``, so it is also recognised by its
looks. Each item keeps its own JSON, so that a wrong one can be refused alone.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from itertools import islice

from quotabell.errors import FieldError, Malformed, Rejected, TooLarge
from quotabell.formats import json_text

AT_ONCE = 4 * 1024 * 1024
"""Bytes of JSON that are decoded in one step. While it lasts no other thread runs, also not the
event loop's, so that larger bodies are decoded item by item."""

_SOLID = re.compile(rb"[^ \t\r\n]")
_SOLID_TEXT = re.compile(r"[^ \t\r\n]")
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


def each(body: bytes, max_batch: int) -> Iterator[bytes]:
    """As `apart`, in small steps: the JSON of one item after the other.

    Other threads run between them. Raises Malformed for what is broken as a whole, Rejected for
    more than ``max_batch``, both possibly after some items.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Malformed("the body is not UTF-8") from None
    begin = _SOLID_TEXT.search(text)
    if begin is None:
        raise Malformed("the body is empty")
    try:
        if begin.group() == "[":
            yield from _in_array(text, begin.end(), max_batch)
        elif _SOLID_TEXT.search(text, _end(text, begin.start())) is None:
            yield body.removeprefix(codecs.BOM_UTF8)
        else:
            yield from lines(body, max_batch)
    except RecursionError:
        raise Malformed("the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        if begin.group() == "{" and _looks_like_lines(body, max_batch):
            yield from lines(body, max_batch)
            return
        line, column = error.lineno, error.colno
        raise Malformed(f"broken JSON: {error.msg} at line {line} column {column}") from None
    except ValueError:  # CPython bounds the digits of an integer literal
        raise Malformed("a number has too many digits") from None


def _in_array(text: str, end: int, max_batch: int) -> Iterator[bytes]:
    """The items of an array whose bracket ends at ``end``."""
    more, found = False, 0
    while True:
        begin = _SOLID_TEXT.search(text, end)
        if begin is not None and begin.group() == "]" and not more:
            break
        start = begin.start() if begin else len(text)
        end = _end(text, start)
        found += 1
        bounded(found, max_batch)
        yield text[start:end].encode("utf-8", "surrogatepass")
        after = _SOLID_TEXT.search(text, end)
        more = after is not None and after.group() == ","
        if not more and (after is None or after.group() != "]"):
            raise json.JSONDecodeError("Expecting ',' delimiter", text, end)
        end = after.end() if more and after else end
    if begin is not None and _SOLID_TEXT.search(text, begin.end()):
        raise json.JSONDecodeError("Extra data", text, begin.end())


def _end(text: str, start: int) -> int:
    """Where the JSON value ends that begins at ``start``; keeps nothing of it.

    The hook is Python, so that other threads run between the objects of a large value.
    """
    try:
        return json.JSONDecoder(object_pairs_hook=_forget).raw_decode(text, start)[1]
    except StopIteration:
        raise json.JSONDecodeError("Expecting value", text, start) from None


def _forget(pairs: object) -> None:
    return None


def lines(body: bytes, max_batch: int) -> list[bytes]:
    """The lines that are not blank, whatever is in them.

    Raises Malformed if there is none, Rejected for more than ``max_batch``.
    """
    found = list(islice(_lines(body), max_batch + 1))
    if not found:
        raise Malformed("the body is empty")
    if len(found) > max_batch:
        raise Rejected([FieldError("", f"more than {max_batch} items at once")])
    return found


def _lines(body: bytes) -> Iterator[bytes]:
    """Many blank lines cost no more than their bytes."""
    end = 0
    while begin := _SOLID.search(body, end):
        end = body.find(b"\n", begin.end())
        end = len(body) if end < 0 else end
        yield body[begin.start() : end]


def _elements(text: str) -> Iterator[bytes]:
    """The elements of an array that is known to be right."""
    scan = json.JSONDecoder().raw_decode
    end = text.index("[") + 1
    while (begin := _ELEMENT.search(text, end)) and begin.group() != "]":
        _, end = scan(text, begin.start())
        yield text[begin.start() : end].encode()


def _looks_like_lines(body: bytes, max_batch: int) -> bool:
    first = _SOLID.search(body)
    if first is None or first.group() == b"[":
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
