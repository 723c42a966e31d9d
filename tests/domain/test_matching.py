"""One matcher chooses for all rules: shell patterns, whole values, every key."""

from __future__ import annotations

import fnmatch
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotabell.domain.matching import KEYS, Match

SIGNS = st.text("ab*?[]!-^&~|.\\\n ä", max_size=12)


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("gpt-*", "gpt-5", True),
        ("gpt-*", "gpt-", True),
        ("gpt-*", "my-gpt-5", False),
        ("gpt-*", "GPT-5", False),
        ("*-mini", "gpt-5-mini", True),
        ("*-mini", "gpt-5-mini-2", False),
        ("gpt-?", "gpt-5", True),
        ("gpt-?", "gpt-55", False),
        ("gpt-[45]", "gpt-4", True),
        ("gpt-[!45]", "gpt-4", False),
        ("gpt-[3-5]", "gpt-4", True),
        ("[*]", "*", True),
        ("[*]", "a", False),
        ("gpt-5", "gpt-5", True),
        ("gpt-5", "gpt-5 ", False),
        ("gpt.5", "gpt-5", False),
        ("a[b", "a[b", True),
        ("*", "", True),
        ("", "", True),
        ("", "a", False),
        ("?*", "", False),
        ("*", "two\nlines", True),
        ("a", "a\n", False),
        (("a*", "b"), "b", True),
        (("a*", "b"), "abc", True),
        (("a*", "b"), "bc", False),
        (("a", "b"), "b", True),
        (("a", "b"), "ab", False),
        (("a", "*"), "zzz", True),
    ],
)
def test_a_pattern_matches_whole_values_by_case(pattern, value, fits):
    assert Match(model=pattern).matches(model=value) is fits


@pytest.mark.parametrize("key", KEYS)
def test_every_key_must_match_and_one_left_out_does(key):
    match = Match(**{key: "a*"})

    assert match.matches(**{name: "abc" for name in KEYS})
    assert not match.matches(**{name: "abc" for name in KEYS} | {key: "b"})
    assert not match.matches(**{name: "abc" for name in KEYS if name != key})
    assert Match().matches()


@given(st.lists(SIGNS, min_size=1, max_size=4), SIGNS)
def test_a_value_fits_if_one_pattern_does_as_a_shell_has_it(patterns, value):
    expected = any(fnmatch.fnmatchcase(value, pattern) for pattern in patterns)

    assert Match(user=patterns).matches(user=value) is expected


def fits(pattern: str, value: str) -> bool:
    """By the rules of ``*`` and ``?`` alone, one character after the other."""
    ends = {0}  # of the beginnings of the value that the pattern so far fits
    for sign in pattern:
        if sign == "*":
            ends = set(range(min(ends), len(value) + 1)) if ends else set()
        else:
            ends = {end + 1 for end in ends if end < len(value) and sign in ("?", value[end])}
    return len(value) in ends


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=20))
def test_stars_and_question_marks_stand_for_what_they_stand_for(pattern, value):
    assert Match(kind=pattern).matches(kind=value) is fits(pattern, value)


def test_patterns_that_mean_the_same_are_equal():
    assert Match(model=["b", "a", "b"]) == Match(model=("a", "b"))
    assert Match(model=["b", "*"]) == Match()
    assert hash(Match(model=["b", "a"])) == hash(Match(model=["a", "b"]))
    assert Match(model="a") != Match(model="b")
    assert Match(model="a") != Match(user="a")


def test_only_what_restricts_is_named():
    assert Match(model=["b", "a*"], user="*").restrictions == {"model": ("a*", "b")}


def test_a_key_without_any_pattern_is_refused():
    with pytest.raises(ValueError, match="at least one pattern"):
        Match(model=[])


@pytest.mark.parametrize(
    "pattern",
    [
        "*a" * 4 + "*b",
        "*a?" * 4 + "*b",
        "*[ab]" * 4 + "*c",
        ["*a" * 4 + "*b", "*a" * 4 + "*c"],
    ],
)
def test_no_pattern_takes_long(pattern):
    """A matcher that tries every way needs millions of steps for these, each like an iteration
    of a loop; the bound is in iterations, so that a busy or slow machine has it as well."""
    match, value = Match(model=pattern), "a" * 120
    match.matches(model=value)

    def matching() -> None:
        assert not match.matches(model=value)

    def looping() -> None:
        for _ in range(100_000):
            pass

    assert least(matching) < least(looping)


def least(work) -> float:
    """The processor time that some work takes at least."""
    times = []
    for _ in range(5):
        begun = time.thread_time()
        work()
        times.append(time.thread_time() - begun)
    return min(times)
