"""JSON that is too large to decode at once, read in order and in small steps.

While one call decodes, no other thread runs, the event loop's neither; 30 MB take it for 50 ms.
So only a window of the text is decoded at a time, in which the values are read one by one. A
value that fits into no window is read without what is long in it (`json_compact`).
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from quotabell.errors import Malformed
from quotabell.formats import json_text
from quotabell.formats.json_compact import AT_ONCE, Body, compact

__all__ = ["LARGE", "Body", "Reader"]

LARGE = 8 * 1024 * 1024
"""Bytes of JSON that are decoded at once, if nothing is to be made of most of them."""

_STEP = 1024 * 1024  # bytes that a window grows by
_SETTLED = 16  # characters; what is further from a window's end stays as it is, right or wrong

_SOLID = re.compile(r"[^ \t\r\n]")


class Reader:
    """Where a text is read, a value after the other; raises Malformed for what is no JSON.

    `peek` says what comes; exactly what comes must be read, by `value`, `raw`, `members`,
    `elements` or `skip`.
    """

    def __init__(self, body: Body) -> None:
        self._body = memoryview(body)
        self._next = len(codecs.BOM_UTF8) if body[:3] == codecs.BOM_UTF8 else 0
        self._text = ""
        self._at = 0
        self._passed = (0, 0)  # lines before the window, and characters of its first line
        self._slide()

    def peek(self) -> str:
        """The first character of what comes; empty at the end."""
        while True:
            found = _SOLID.search(self._text, self._at)
            if found is not None:
                self._at = found.start()
                return found.group()
            self._at = len(self._text)
            if self._is_last:
                return ""
            self._slide()

    def value(self, hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
        """The value that comes. ``hook``, as `json.loads` has it, lets other threads run."""
        return self._decoded(json.JSONDecoder(object_hook=hook or _same))[0]

    def raw(self) -> bytes:
        """The JSON of the item that comes; only its form is looked at."""
        return self._decoded(json.JSONDecoder(object_pairs_hook=_nothing), item=True)[1]

    def skip(self) -> None:
        """Pass over the value that comes."""
        self.raw()

    def members(self) -> Iterator[str]:
        """The names of the object that comes, each before its value is to be read."""
        self._take("{")
        more = self.peek() != "}"
        while more:
            if self.peek() != '"':
                raise self._broken("Expecting property name enclosed in double quotes")
            name = self.value()
            self._take(":")
            yield name
            more = self._goes_on("}")
        self._take("}")

    def elements(self) -> Iterator[None]:
        """As often as the array that comes has an element, before it is to be read."""
        self._take("[")
        more = self.peek() != "]"
        while more:
            self.peek()
            yield
            more = self._goes_on("]")
        self._take("]")

    def _goes_on(self, end: str) -> bool:
        if self.peek() == ",":
            self._at += 1
            return True
        if self.peek() == end:
            return False
        raise self._broken("Expecting ',' delimiter")

    def _take(self, char: str) -> None:
        if self.peek() != char:
            raise self._broken(f"Expecting {char!r}")
        self._at += 1

    @property
    def _is_last(self) -> bool:
        return self._next >= len(self._body)

    def _slide(self) -> None:
        """Let the window begin at what comes, and reach further."""
        lines, column = self._passed
        passed = self._text.count("\n", 0, self._at)
        since = self._text.rfind("\n", 0, self._at) + 1
        self._passed = (lines + passed, self._at - since + (0 if passed else column))
        rest = self._text[self._at :]
        room = max(_STEP, len(rest))
        piece = self._body[self._next : self._next + room]
        final = self._next + len(piece) >= len(self._body)
        try:
            text, used = codecs.utf_8_decode(piece, "strict", final)
        except UnicodeDecodeError:
            raise Malformed("the body is not UTF-8") from None
        self._text, self._at = rest + text, 0
        self._next += used

    def _decoded(self, decoder: json.JSONDecoder, *, item: bool = False) -> tuple[Any, bytes]:
        self.peek()
        while len(self._text) - self._at <= AT_ONCE:
            try:
                found, end = decoder.raw_decode(self._text, self._at)
            except RecursionError:
                raise Malformed("the JSON is nested too deeply") from None
            except json.JSONDecodeError as error:
                unsettled = len(self._text) - _SETTLED <= error.pos
                if self._is_last or not (unsettled or error.msg.startswith("Unterminated")):
                    raise self._broken(error.msg, error.pos) from None
            except ValueError:  # CPython bounds the digits of an integer literal
                raise Malformed("a number has too many digits") from None
            else:
                if end < len(self._text) - _SETTLED or self._is_last:
                    raw = self._text[self._at : end].encode()
                    self._at = end
                    return found, raw
            self._slide()
        return self._large(decoder, item)

    def _large(self, decoder: json.JSONDecoder, item: bool) -> tuple[Any, bytes]:
        """A value that is large, from what is left of it."""
        start = self._next - len(self._text[self._at :].encode())
        raw, self._next = compact(self._body, start, item=item)
        self._text, self._at = "", 0
        self._slide()
        json_text.bounded(raw)
        try:
            text = raw.decode()
            found, end = decoder.raw_decode(text)
        except RecursionError:
            raise Malformed("the JSON is nested too deeply") from None
        except ValueError:
            raise Malformed("broken JSON within a large value") from None
        if end != len(text):
            raise Malformed("broken JSON within a large value")
        return found, raw

    def _broken(self, message: str, at: int | None = None) -> Malformed:
        at = self._at if at is None else at
        lines, column = self._passed
        more = self._text.count("\n", 0, at)
        column = at - (self._text.rfind("\n", 0, at) + 1) + (0 if more else column)
        return Malformed(f"broken JSON: {message} at line {lines + more + 1} column {column + 1}")


def _same(found: dict[str, Any]) -> dict[str, Any]:
    return found


def _nothing(pairs: object) -> None:
    return None
