"""What fails again and again is told at once, then now and then."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import structlog

from quotabell.log import configure
from quotabell.log_repeats import EVERY, KEYS, Repeats


class Told:
    """What is written of warnings, by a clock that stands unless it is set."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._repeats = Repeats(clock=lambda: self.now)

    def __call__(self, event: str, method: str = "warning", **values: Any) -> dict[str, Any] | None:
        try:
            return dict(self._repeats(None, method, {"event": event, **values}))
        except structlog.DropEvent:
            return None


def test_the_first_is_told_at_once_and_a_later_one_says_how_many_were_left_out() -> None:
    told = Told()

    assert told("round failed", reason="disk full", time="1") == {
        "event": "round failed",
        "reason": "disk full",
        "time": "1",
    }
    for number in range(40):
        told.now += EVERY / 50
        assert told("round failed", reason="disk full", time=str(number)) is None
    told.now += EVERY
    later = told("round failed", reason="disk full", time="3")
    assert later is not None
    assert later["left_out"] == 40
    told.now += EVERY
    after = told("round failed", reason="disk full", time="4")
    assert after is not None
    assert "left_out" not in after


def test_numbers_do_not_make_another_complaint_but_names_do() -> None:
    told = Told()

    assert told("not committed", requests=3, reason="cannot extend base/5/17: full (53100)")
    assert told("not committed", requests=4, reason="cannot extend base/5/99: full (53100)") is None
    assert told("not followed", quota="q1", reason="away")
    assert told("not followed", quota="q2", reason="away")
    assert told("not followed", quota="q2", reason="locked")


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("error", {"reason": "no such file"}),
        ("info", {"reason": "x"}),
        ("warning", {"source": "s"}),
    ],
)
def test_what_is_no_failed_try_is_told_each_time(method: str, values: dict[str, str]) -> None:
    told = Told()

    assert all(told("something happened", method, **values) for _ in range(3))


def test_complaints_without_end_are_forgotten_the_eldest_first() -> None:
    told = Told()
    names = [f"q{number}" for number in range(KEYS + 1)]

    assert all(told("not followed", quota=name, reason="away") for name in names)
    assert told("not followed", quota=names[-1], reason="away") is None
    assert told("not followed", quota=names[0], reason="away")


def test_each_daemon_leaves_out_what_it_has_said_itself() -> None:
    one, other = io.StringIO(), io.StringIO()
    for stream in (one, other):
        log = configure("warning", "json", stream).get_logger()
        for number in range(5):
            log.warning("round failed", reason=f"try {number}")

    for stream in (one, other):
        [line] = stream.getvalue().splitlines()
        assert json.loads(line)["reason"] == "try 0"
