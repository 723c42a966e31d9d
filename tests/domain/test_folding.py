"""Sums over users never fall, and subjects are counted where they are."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotabell.domain.events import Kinds
from quotabell.domain.folding import BANDS, Bands, FoldedSums, Folding, Sum

users = st.sampled_from(["alice", "bob", "other"])
models = st.sampled_from(["m", "n"])


@given(st.lists(st.tuples(users, models, st.integers(0, 9), st.decimals(0, 9, places=2))))
def test_a_sum_over_users_never_falls_and_has_the_most_of_each(
    seen: list[tuple[str, str, int, Decimal]],
) -> None:
    """Also when an older figure of a user comes after a newer one."""
    folded = FoldedSums()
    most: dict[tuple[str, str], tuple[int, Decimal]] = {}
    last: dict[str, Sum] = {}
    for user, model, count, cost in seen:
        folded.add(Sum(user, "p", model, Kinds(count, output=count), count, cost))
        before = most.get((user, model), (0, Decimal(0)))
        most[user, model] = (max(before[0], count), max(before[1], cost))
        now = {found.model: found for found in folded}
        for found in now.values():
            old = last.get(found.model, found)
            assert (found.user_id, found.kinds.input) == ("other", found.requests)
            assert found.requests >= old.requests
            assert found.cost_usd >= old.cost_usd
            of_model = [value for key, value in most.items() if key[1] == found.model]
            assert found.requests == sum(value[0] for value in of_model)
            assert found.cost_usd == sum(value[1] for value in of_model)
        last = now


subjects = st.tuples(st.sampled_from("abcd"), st.sampled_from(["q", "r"]))
limits = st.none() | st.integers(0, 100)


@given(st.lists(st.tuples(subjects, st.integers(0, 120), limits, st.booleans())))
def test_each_subject_is_counted_once_where_it_is_now(
    steps: list[tuple[tuple[str, str], int, int | None, bool]],
) -> None:
    bands, there = Bands(), dict[tuple[str, str], str]()
    for subject, used, limit, removed in steps:
        there.pop(subject, None)
        if removed:
            bands.drop(subject)
            continue
        bands.put(subject, subject[1], used, limit)
        if limit:
            there[subject] = _band(100 * used / limit)
        wanted = Counter((quota, band) for (_, quota), band in there.items())
        for quota, counts in bands.counts.items():
            assert counts == [wanted[quota, band] for band in BANDS]


def _band(percentage: float) -> str:
    for edge, band in zip((50, 75, 90, 100), BANDS, strict=False):
        if percentage < edge:
            return band
    return "over"


@pytest.mark.parametrize(
    ("folding", "gauges", "sums"),
    [
        (Folding(), {"", "alice", "bob", "other"}, {"", "alice", "bob", "other"}),
        (Folding(per_user=False), {""}, set()),
        (Folding(named=frozenset({"bob"})), {"", "bob"}, {"", "bob"}),
    ],
)
def test_who_has_series(folding: Folding, gauges: set[str], sums: set[str]) -> None:
    everybody = {"", "alice", "bob", "other"}

    assert {user for user in everybody if folding.shows(user)} == gauges
    assert {user for user in everybody if folding.names(user)} == sums
