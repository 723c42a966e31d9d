"""What messages say: as a file of examples to read, and as rules that hold for anything."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import astuple
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotabell.domain.draft import LONG, SHORT
from quotabell.domain.facts import (
    AUDIENCES,
    ChannelFacts,
    Contributors,
    Facts,
    Part,
    QuotaFacts,
    SourceFacts,
    TrialFacts,
    Unit,
)
from quotabell.domain.names import ISOLATE, POP, shown
from quotabell.domain.wording import words
from tests.domain.messages import GOLDEN, LATELY, quota, rendered, shared

BIGINT = 2**63 - 1


def test_messages_read_as_in_the_file_of_examples() -> None:
    assert rendered() == GOLDEN.read_text("utf-8")


def test_the_first_example_is_the_one_of_the_contract() -> None:
    facts = quota(user="")

    said = words(facts, "owner")

    assert f"{said.title}: {said.body}" == (
        "openai / gpt-5 is at 90 %: 1.8 M of 2 M tokens, runs out in about 42 min, resets in 3 h"
    )


# --- who is told whose name -----------------------------------------------------------------


@pytest.mark.parametrize("audience", ["owner", "others"])
def test_only_operators_are_told_who_uses_a_shared_quota(audience: str) -> None:
    said = " ".join(astuple(words(shared(), audience)))  # type: ignore[arg-type]

    assert not any(part.name in said for part in LATELY.users)
    assert "alice 62 %" in words(shared(), "operators").text


def test_a_user_s_message_never_names_another_user_even_if_its_facts_do() -> None:
    facts = quota(model="*", contributors=LATELY)

    for audience in AUDIENCES:
        said = words(facts, audience)
        assert "bob" not in said.title + said.body + said.text


def test_others_are_told_neither_whose_usage_it_is_nor_of_which_models() -> None:
    said = words(quota(quota="q", model="*", contributors=LATELY), "others")

    assert "alice" not in said.title + said.body + said.text
    assert "gpt" not in said.title + said.body + said.text
    assert "by one user" in said.body


# --- names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("gpt-5", 10, "gpt-5"),
        ("a-very-long-name", 10, "a-ver…name"),
        ("two words and more", 10, "two w…more"),
        ("  a \n b\tc ", 10, "a b c"),
        ("", 10, "(no name)"),
        ("\u200b\u202e\u2066", 10, "(no name)"),
        ("\u0301\u0301a", 10, "a"),
        ("e\u0301e\u0301", 10, "éé"),
        ("q\u0307\u0323" * 9, 10, "q\u0323\u0307…q\u0323\u0307q\u0323\u0307"),
        ("🇩🇪🇫🇷🇯🇵🇧🇷🇨🇦", 8, "🇩🇪🇫🇷…🇨🇦"),
        ("👍🏽" * 6, 8, "👍🏽👍🏽…👍🏽"),
        ("a" + "\u0489" * 500, 40, "a" + "\u0489" * 11),
        ("می‌خواهم", 20, f"{ISOLATE}می‌خواهم{POP}"),
        ("\ud800x\ue000", 10, "�x�"),
        ("日本語の長い名前です", 6, "日本語…です"),
    ],
)
def test_a_name_is_one_readable_piece_of_a_line(name: str, width: int, expected: str) -> None:
    assert shown(name, width) == expected


@given(st.text(max_size=60), st.integers(6, 40))
def test_a_name_keeps_its_bounds_and_its_directions_to_itself(name: str, width: int) -> None:
    said = shown(name, width)

    assert said
    assert len(said) <= max(width, len("(no name)")) + 2
    assert_harmless(said)
    if any(unicodedata.bidirectional(sign) in ("R", "AL", "AN") for sign in said):
        assert said.startswith(ISOLATE)


# --- anything -------------------------------------------------------------------------------

NASTY = st.one_of(
    st.text(max_size=250),
    st.text("אבع٤ \u202e\u2066\u2069\u2068\n\x1b\u0301👨🏻‍\ud800", max_size=250),
    st.sampled_from(["*", "", "alice", "reported", "reported:5h", "reported:x" * 30]),
)
# Figures are looked at apart from names, which may hold any digits.
PLAIN = st.sampled_from(
    ["*", "", "alice", "reported", "reported:requests", "נועה", "例", "x" * 250]
)
COUNTS = st.one_of(
    st.integers(0, BIGINT), st.sampled_from([0, 1, 9_999, 10_000, 999_999, 10**6, BIGINT])
)
FLOATS = st.floats()
TIMES = st.datetimes(timezones=st.just(UTC))
NEAR = st.builds(
    lambda seconds: datetime(2026, 11, 23, 13, tzinfo=UTC) + timedelta(seconds=seconds),
    st.integers(-(10**7), 10**7),
)


def quotas(names: st.SearchStrategy[str]) -> st.SearchStrategy[QuotaFacts]:
    parts = st.lists(st.builds(Part, names, COUNTS), max_size=4).map(tuple)
    times = st.one_of(TIMES, NEAR)
    return st.builds(
        QuotaFacts,
        kind=st.sampled_from(["threshold", "forecast"]),
        state=st.sampled_from(["firing", "resolved"]),
        now=times,
        quota=names,
        provider=names,
        model=names,
        user=names,
        unit=st.sampled_from(get_args(Unit)),
        used=COUNTS,
        limit=st.none() | COUNTS,
        level=st.none() | FLOATS,
        burn=st.none() | FLOATS,
        exhausts_at=st.none() | times,
        resets_at=st.none() | times,
        zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "", "../x", "America"])
        | st.text(max_size=9),
        reason=names,
        contributors=st.none()
        | st.builds(Contributors, total=COUNTS, seconds=FLOATS, users=parts, models=parts),
        link=names.map(lambda name: name[:30]),
    )


def messages(names: st.SearchStrategy[str]) -> st.SearchStrategy[Facts]:
    times = st.one_of(TIMES, NEAR)
    state = st.sampled_from(["firing", "resolved"])
    quota = quotas(names)
    source = st.builds(
        SourceFacts,
        state=state,
        now=times,
        source=names,
        last_seen=st.none() | times,
        rhythm=st.none() | FLOATS,
        reason=names,
    )
    channel = st.builds(
        ChannelFacts,
        state=state,
        now=times,
        channel=names,
        since=st.none() | times,
        error=names,
        failed=st.none() | COUNTS,
        reason=names,
    )
    test = st.builds(TrialFacts, now=times, user=names, link=names)
    return st.one_of(quota, quota, source, channel, test)


def assert_harmless(text: str) -> None:
    """No control characters and no marks of direction but whole pairs of isolation."""
    depth = 0
    for sign in text:
        depth += (sign == ISOLATE) - (sign == POP)
        assert 0 <= depth <= 1
        assert sign in ISOLATE + POP + "\n\u200c\u200d" or unicodedata.category(sign) not in (
            *("Cc", "Cf", "Cs", "Zl", "Zp"),
        )
    assert depth == 0


@given(messages(NASTY), st.sampled_from(AUDIENCES))
def test_whatever_the_facts_are_a_message_keeps_its_bounds(facts: Facts, audience: str) -> None:
    said = words(facts, audience)  # type: ignore[arg-type]

    assert said.title
    assert "\n" not in said.title + said.body
    assert len(said.title) + 1 + len(said.body) <= SHORT
    assert len(said.title) + 1 + len(said.text) <= LONG
    assert_harmless(said.title + said.body + said.text)


# A day, a year and a clock are no amounts.
_NUMBER = re.compile(r"\d[\d,]*")


@given(messages(PLAIN), st.sampled_from(AUDIENCES))
def test_no_figure_has_more_than_four_digits_before_its_point(facts: Facts, audience: str) -> None:
    said = words(facts, audience)  # type: ignore[arg-type]

    for number in _NUMBER.findall(said.title + " " + said.body + " " + said.text):
        assert int(number.replace(",", "")) <= 9_999


@given(COUNTS, st.integers(1, BIGINT))
def test_what_is_not_full_never_reads_as_full_and_what_is_always_does(
    used: int, limit: int
) -> None:
    said = words(quota(used=used, limit=limit, level=None, burn=None, user=""), "owner")

    percent = re.search(r"is at (over )?([\d,.]+) %", said.title)
    assert percent
    assert (float(percent[2].replace(",", "")) >= 100) == (used >= limit)
    mine, of = said.body.split(" tokens")[0].split(" of ")
    assert (mine == of) == (used == limit)


@given(COUNTS, st.integers(1, BIGINT), st.floats(0.01, 1000))
def test_a_level_that_is_not_reached_is_not_shown_as_reached(
    used: int, limit: int, level: float
) -> None:
    said = words(quota(used=used, limit=limit, level=level, burn=None), "owner")

    percent = re.search(r"is at ([\d,.]+) %", said.title)
    if percent and used * 100 < level * limit:
        assert float(percent[1].replace(",", "")) < level


@pytest.mark.parametrize("name", ["x" * 200, "ש" * 200, "字" * 200, "👍🏽" * 100])
def test_what_belongs_into_a_message_is_there_whatever_its_names_are(name: str) -> None:
    found = Contributors(total=10, users=(Part(name, 6), Part(name, 3)))
    facts = quota(quota=name, provider=name, model=name, user=name, contributors=found)

    said = words(facts, "operators")

    assert "is at 90 %" in said.title
    for part in ("1.8 M of 2 M tokens by ", "runs out in about 42 min", "resets in 3 h"):
        assert part in said.body
    assert "17:00 Europe/Berlin" in said.text
