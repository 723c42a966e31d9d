"""The words of digests: bounded, whatever they are about."""

from __future__ import annotations

from typing import Any

import pytest

from quotabell.domain.digest import LISTED, compose


def facts(n: int, **more: Any) -> dict[str, Any]:
    return {
        "userId": f"user-{n}", "quota": "reported", "provider": "openai", "model": "gpt-5",
        "percentage": 99.99 - n, "level": 90.0,
    } | more  # fmt: skip


def test_the_worst_are_named_and_the_rest_are_counted() -> None:
    digest = compose("threshold", ends=False, number=10_000, worst=[facts(n) for n in range(200)])

    assert digest.title == "10,000 quotas are above a threshold"
    assert digest.body.startswith("user-0 openai / gpt-5 99 %, user-1 openai / gpt-5 98 %, ")
    assert digest.body.endswith("and 9,990 more")
    assert len(digest.data["members"]) == LISTED
    assert digest.level == 90.0


def test_readers_who_are_no_operators_are_told_no_names() -> None:
    digest = compose("threshold", ends=True, number=7, worst=[facts(1)], named=False)

    assert digest.title == "7 alerts are resolved"
    assert "user-1" not in str(digest)


@pytest.mark.parametrize("kind", ["stale", "channel"])
def test_sources_and_channels_are_told_by_name_to_people_and_to_programs(kind: str) -> None:
    worst = [{"subject": f"apps/otlp/{n}", "level": None} for n in range(12)]
    digest = compose(kind, ends=False, number=12, worst=worst)

    assert digest.body == ", ".join(f"apps/otlp/{n}" for n in range(10)) + " and 2 more"
    assert [member["subject"] for member in digest.data["members"]] == [
        one["subject"] for one in worst
    ]


@pytest.mark.parametrize("odd", [None, 5, "x" * 10_000, ["x"], {"a": 1}, float("inf"), True])
def test_odd_facts_cost_nothing_but_themselves(odd: Any) -> None:
    worst = [dict.fromkeys(facts(1, subject=""), odd) for _ in range(100)]
    digest = compose("forecast", ends=False, number=100, worst=worst)

    assert len(digest.body) < 1000
    assert digest.title == "100 quotas are forecast to run out"
