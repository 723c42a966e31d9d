"""Which usage, alert or message a rule is about: the one matcher of all rules.

Quotas, overrides, thresholds, channels and silences all choose by the same keys in the same
way: shell patterns in which ``*`` stands for any text, ``?`` for one character and ``[a-c]``
or ``[!a-c]`` for one of (or none of) some. They are case-sensitive and match whole values.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

Patterns = str | Iterable[str]
"""One pattern, or several of which one must match."""

ANY = "*"
KEYS = ("provider", "model", "user", "quota", "kind")

_WILDCARD = re.compile(r"[*?\[]")
_Test = Callable[[str], object]


@dataclass(frozen=True, slots=True, init=False)
class Match:
    """Patterns for some keys; every key must match, and one that is left out always does.

    Patterns are kept sorted and without repeats, so that equal ones mean the same.
    """

    provider: tuple[str, ...]
    model: tuple[str, ...]
    user: tuple[str, ...]
    quota: tuple[str, ...]
    kind: tuple[str, ...]
    # What asks something, with the place of the value that it asks about.
    _tests: tuple[tuple[int, _Test], ...] = field(repr=False, compare=False)

    def __init__(
        self,
        provider: Patterns = ANY,
        model: Patterns = ANY,
        user: Patterns = ANY,
        quota: Patterns = ANY,
        kind: Patterns = ANY,
    ) -> None:
        """Raises ValueError for an empty list, which would match nothing."""
        given = (provider, model, user, quota, kind)
        for key, patterns in zip(KEYS, given, strict=True):
            object.__setattr__(self, key, _ordered(patterns))
        tests = (_test(getattr(self, key)) for key in KEYS)
        needed = tuple((n, test) for n, test in enumerate(tests) if test is not None)
        object.__setattr__(self, "_tests", needed)

    @property
    def restrictions(self) -> dict[str, tuple[str, ...]]:
        """The keys that do not match just anything, with their patterns."""
        return {key: found for key in KEYS if ANY not in (found := getattr(self, key))}

    def only(self, key: str) -> str | None:
        """The one value of a key that can match, if there is just one."""
        patterns: tuple[str, ...] = getattr(self, key)
        one = len(patterns) == 1 and not _WILDCARD.search(patterns[0])
        return patterns[0] if one else None

    def matches(
        self,
        *,
        provider: str = "",
        model: str = "",
        user: str = "",
        quota: str = "",
        kind: str = "",
    ) -> bool:
        """Whether the rule is about this; a value that does not exist is empty."""
        if not self._tests:  # the most frequent rule, asked for every new caller
            return True
        values = (provider, model, user, quota, kind)
        return all(test(values[n]) for n, test in self._tests)


def _ordered(patterns: Patterns) -> tuple[str, ...]:
    found = {patterns} if isinstance(patterns, str) else set(patterns)
    if not found:
        raise ValueError("a key of a match needs at least one pattern")
    return (ANY,) if ANY in found else tuple(sorted(found))


def _test(patterns: tuple[str, ...]) -> _Test | None:
    """True or a match for a value that fits, None if every value does.

    ``fnmatch.translate`` puts all but the last ``*`` of a pattern into atomic groups
    (Python 3.11), so no pattern makes matching exponential.
    """
    if ANY in patterns:
        return None
    if not any(_WILDCARD.search(pattern) for pattern in patterns):
        return frozenset(patterns).__contains__
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns)).match


def as_regex(patterns: Iterable[str]) -> str | None:
    """What the patterns match as a regular expression of Postgres; None: anything.

    Only of literals by their code, so that nothing in a pattern has a meaning of its own.
    """
    found = tuple(patterns)
    if ANY in found:
        return None
    return "^(?:" + "|".join("".join(_pieces(pattern)) for pattern in found) + ")$"


def _pieces(pattern: str) -> Iterator[str]:
    at = 0
    while at < len(pattern):
        sign, at = pattern[at], at + 1
        if sign == "*":
            yield ".*"
        elif sign == "?":
            yield "."
        elif sign == "[" and (end := _set_end(pattern, at)):
            yield _set(pattern[at:end])
            at = end + 1
        else:
            yield _literal(sign)


def _set_end(pattern: str, start: int) -> int:
    """Where the set that begins at ``start`` has its bracket; 0: nowhere, so it is none."""
    first = start + 1 if pattern[start : start + 1] == "!" else start
    # A bracket that comes first belongs to the set.
    return max(0, pattern.find("]", first + 1))


def _set(content: str) -> str:
    without = content.startswith("!")
    ranges = []
    rest = content[without:]
    while rest:
        if rest[1:2] == "-" and len(rest) > 2:
            low, high, rest = rest[0], rest[2], rest[3:]
        else:
            low, high, rest = rest[0], rest[0], rest[1:]
        if low <= high:
            ranges.append(f"{_literal(low)}-{_literal(high)}")
    if not ranges:  # none of nothing is anything
        return "." if without else "(?!)"
    return f"[{'^' * without}{''.join(ranges)}]"


def _literal(sign: str) -> str:
    return f"\\U{ord(sign):08X}"
