"""A large JSON value without what is long in it, so that it is decoded in small steps.

Decoding lets other threads run whenever an object ends. So what may be long without an object
is left out, being no name, id or count: texts, which may be prompts and answers, and arrays, which
may be embeddings.
"""

from __future__ import annotations

import re
from hashlib import sha256

from quotabell.errors import Malformed, TooLarge
from quotabell.formats import json_text

Body = bytes | memoryview

AT_ONCE = 2 * 1024 * 1024
"""Bytes of JSON that may come without the end of an object: they are decoded in one step."""

MAX_ITEM = 8 * 1024 * 1024
"""Bytes that may be left of an item: it is decoded once more, then in one step."""

_LONG = 64 * 1024  # bytes of a text or array that is left out
_STEP = 1024 * 1024  # bytes that are looked through at once
_TEXT_STEP = 128 * 1024
_DEEP = 1_000  # values within each other, as many as Python decodes

_MARK = re.compile(rb'["{}\[\]]')
_WITHIN = re.compile(rb'(?:[^"\\]|\\.)*+', re.DOTALL)
_QUOTE = ord('"')


def compact(body: Body, start: int, *, item: bool = False) -> tuple[bytes, int]:
    """The value that begins at ``start``, long texts in it replaced by their digests and long
    arrays by empty ones, and where it ends.

    Arrays that hold objects are kept unless it is an ``item`` of a report: what tells of a call
    stands in no long array, while a request's spans and points do. It may be broken in every
    other way; Malformed if it has no end or is nested too deeply, TooLarge if it holds more than
    some `json_text.MAX_VALUES` values, or if what is left cannot be decoded in small steps.
    """
    left, at = _Left(body, start, item), start
    for _ in range(json_text.MAX_VALUES):
        mark = None
        while mark is None and at < len(body):
            mark = _MARK.search(body, at, at + _STEP)
            at = mark.end() if mark else at + _STEP
        if mark is None:
            raise Malformed("broken JSON: it ends within a value")
        if mark[0] == b'"':
            end = _string_end(body, at)
            if end - at > _LONG:
                left.text(at, end - 1)
            at = end
        else:
            left.bracket(mark[0], at)
        if left.depth <= 0:
            return left.ended(at), at
    raise TooLarge("a value holds too many others")


class _Left:
    """What is left of a value, put together as it is looked through."""

    def __init__(self, body: Body, start: int, item: bool) -> None:
        self.depth = 0
        self._body = body
        self._item = item
        self._out = bytearray()
        self._kept = start  # in the body, from where on nothing is in ``_out`` yet
        self._arrays: list[tuple[int, int]] = []  # where those that are open begin, and `_objects`
        self._objects = 0  # how many have ended
        self._last = 0  # where in ``_out`` the last one did

    def text(self, start: int, end: int) -> None:
        """Replace a text."""
        self._keep(start)
        self._out += sha256(self._body[start:end]).hexdigest().encode()
        self._kept = end

    def bracket(self, sign: bytes, end: int) -> None:
        """A bracket that ends at ``end``."""
        self.depth += 1 if sign in b"{[" else -1
        if self.depth > _DEEP:
            raise Malformed("the JSON is nested too deeply")
        here = len(self._out) + end - self._kept
        if sign == b"[":
            self._arrays.append((here, self._objects))
        elif sign == b"]" and self._arrays:
            begun, objects = self._arrays.pop()
            if here - begun > _LONG and (self._item or objects == self._objects):
                self._keep(end)
                self._out[begun:] = sign
                self._last = min(self._last, begun)
        elif sign == b"}":
            self._objects += 1
            self._step(here)

    def ended(self, end: int) -> bytes:
        """All that is left, of a value that ends at ``end``."""
        self._keep(end)
        self._step(len(self._out))
        if self._item and len(self._out) > MAX_ITEM:
            raise TooLarge(f"an item holds more than {MAX_ITEM} bytes beside its texts and arrays")
        return bytes(self._out)

    def _keep(self, end: int) -> None:
        self._out += self._body[self._kept : end]
        self._kept = end

    def _step(self, here: int) -> None:
        if here - self._last > AT_ONCE:
            raise TooLarge(f"more than {AT_ONCE} bytes of a value hold no object")
        self._last = here


def _string_end(body: Body, start: int) -> int:
    """Behind the quote that ends the text which begins at ``start``."""
    while within := _WITHIN.match(body, start, start + _TEXT_STEP):
        end = within.end()
        if end >= len(body) or (end == start and body[end] != _QUOTE):
            break
        if body[end] == _QUOTE:
            return end + 1
        start = end
    raise Malformed("broken JSON: it ends within a text")
