from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quotabell.domain.backoff import BASE, CAP, FLOOR, MAX_ATTEMPTS, next_attempt, next_due


class Highest:
    def uniform(self, a: float, b: float, /) -> float:
        return b


class Lowest:
    def uniform(self, a: float, b: float, /) -> float:
        return a


def test_the_window_doubles_up_to_fifteen_minutes() -> None:
    waits = [next_attempt(n, None, Highest()) for n in range(1, 13)]

    assert waits == [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900]


def test_no_try_follows_at_once() -> None:
    assert next_attempt(1, None, Lowest()) == FLOOR
    assert next_attempt(1, 0.0, Lowest()) == FLOOR


def test_tries_are_spread_over_the_whole_window() -> None:
    rng = random.Random(7)
    waits = sorted(next_attempt(6, None, rng) for _ in range(400))

    assert waits[0] < 0.05 * BASE * 2**5
    assert waits[-1] > 0.95 * BASE * 2**5


@settings(deadline=None)
@given(
    st.integers(-5, 10**9),
    st.none() | st.floats(0, 86400),
    st.integers(0, 2**32).map(random.Random),
)
def test_a_try_is_never_early_and_never_later_than_asked(
    attempt: int, retry_after: float | None, rng: random.Random
) -> None:
    wait = next_attempt(attempt, retry_after, rng)

    assert max(FLOOR, retry_after or 0) <= wait <= max(CAP, retry_after or 0)


def test_after_twelve_attempts_nothing_follows() -> None:
    assert next_due(0, MAX_ATTEMPTS - 1, None, 1e9, Lowest()) == FLOOR
    assert next_due(0, MAX_ATTEMPTS, None, 1e9, Lowest()) is None


def test_a_throttled_try_leaves_the_limit_alone() -> None:
    assert next_due(0, MAX_ATTEMPTS, 30, 1e9, Lowest(), counts=False) == 30


@pytest.mark.parametrize(("expires_at", "due"), [(1031, 1030), (1030, None), (1000, None)])
def test_nothing_follows_after_the_message_has_expired(
    expires_at: float, due: float | None
) -> None:
    assert next_due(1000, 1, 30, expires_at, Lowest()) == due
