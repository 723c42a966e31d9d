"""How often somebody may ask for what costs others."""

from __future__ import annotations

import pytest

from quotabell.http.allowance import Allowance, TooMany
from quotabell.http.auth import Caller


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def caller(name: str, user: str | None = None) -> Caller:
    return Caller(name, frozenset({"push"}), user)


def test_all_of_a_minute_may_come_at_once_and_then_one_by_one() -> None:
    clock = Clock()
    allowance = Allowance(10, clock=clock)
    for _ in range(10):
        allowance.take(caller("a"))

    with pytest.raises(TooMany) as refused:
        allowance.take(caller("a"))
    assert refused.value.retry_after == pytest.approx(6.0)

    clock.now += 5.9
    with pytest.raises(TooMany):
        allowance.take(caller("a"))
    clock.now += 0.2
    allowance.take(caller("a"))
    with pytest.raises(TooMany):
        allowance.take(caller("a"))


def test_who_was_away_has_no_more_than_a_minutes_worth() -> None:
    clock = Clock()
    allowance = Allowance(2, clock=clock)
    allowance.take(caller("a"))
    clock.now += 86_400
    for _ in range(2):
        allowance.take(caller("a"))
    with pytest.raises(TooMany):
        allowance.take(caller("a"))


def test_the_tokens_of_a_user_share_and_those_of_others_do_not() -> None:
    allowance = Allowance(1, clock=Clock())
    allowance.take(caller("phone", "alice"))
    with pytest.raises(TooMany):
        allowance.take(caller("laptop", "alice"))
    allowance.take(caller("phone", "bob"))
    allowance.take(caller("alice"))  # a token that is called like a user


def test_a_crowd_of_callers_is_not_remembered_for_ever() -> None:
    allowance = Allowance(10, keys=100, clock=Clock())
    for n in range(1000):
        allowance.take(caller("t", f"user-{n}"))
    assert len(allowance) == 100
