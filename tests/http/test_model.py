"""Any sequence of reports ends as a naive model says, however they are sent."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.http.client import Client, snapshot

pytestmark = pytest.mark.asyncio(loop_scope="module")

_providers = count()
START = datetime.now(UTC) - timedelta(hours=2)


class Report(NamedTuple):
    user: str | None
    model: str
    used: int
    limit: int | None
    second: int | None  # after START; None: no timestamp; negative: that far ahead of now

    def body(self, provider: str) -> dict[str, Any]:
        found = snapshot(
            provider=provider,
            model=self.model,
            tokensUsed=self.used,
            tokenLimit=self.limit,
            userId=self.user,
        )
        if self.second is not None:
            ahead = datetime.now(UTC) - timedelta(seconds=self.second)
            at = START + timedelta(seconds=self.second) if self.second >= 0 else ahead
            found["timestamp"] = at.isoformat()
        return found


class Model:
    """One report after the other; the newest of a quota wins, of equally old ones the last."""

    def __init__(self) -> None:
        self.states: dict[tuple[str, str], tuple[float, int, int | None]] = {}
        self._now = 1e9

    def tick(self) -> None:
        self._now += 1

    def take(self, report: Report) -> bool:
        key = (report.user or "", report.model)
        recent = report.second is None or report.second < 0
        at = self._now if recent else float(report.second or 0)
        held = self.states.get(key)
        if held is not None and at < held[0]:
            return False
        limit = report.limit if report.limit and report.limit > 0 else None
        self.states[key] = (at, report.used, limit)
        return True


reports = st.builds(
    Report,
    st.sampled_from([None, "", "alice", "bob"]),
    st.sampled_from(["a", "b", "a' --"]),
    st.integers(0, 2**63 - 1) | st.integers(0, 100),
    st.sampled_from([None, 0, -1, 1, 100]),
    st.integers(0, 20) | st.none() | st.integers(-200, -1),
)
arrays = st.lists(reports, min_size=1, max_size=8)
# Sent at once the order of arrival is open, so these are told apart by their times.
volleys = st.lists(
    reports.flatmap(lambda r: st.integers(0, 20).map(lambda s: r._replace(second=s))),
    min_size=2,
    max_size=12,
    unique_by=lambda r: r.second,
)
steps = st.lists(
    st.tuples(st.just("array"), arrays) | st.tuples(st.just("volley"), volleys), max_size=6
)


@settings(max_examples=50)
@given(steps)
async def test_the_stored_state_is_what_a_naive_model_says(
    client: Client, steps: list[tuple[str, list[Report]]]
):
    provider, model = f"p{next(_providers)}", Model()
    for kind, sent in steps:
        model.tick()
        bodies = [r.body(provider) for r in sent]
        if kind == "array":
            data = (await client.update(bodies)).data
            assert [d["applied"] for d in data] == [model.take(r) for r in sent]
        else:
            replies = await asyncio.gather(*(client.update(b) for b in bodies))
            assert {r.status for r in replies} == {200}
            # A time that equals the one stored before wins, as it comes later.
            for report in sorted(sent, key=lambda r: r.second or 0):
                model.take(report)

    assert await _stored(client, provider) == {
        key: (used, limit) for key, (_, used, limit) in model.states.items()
    }


async def _stored(client: Client, provider: str) -> dict[tuple[str, str], Any]:
    """Used and limit by user and model."""
    values: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for s in await client.samples("usage"):
        if s.labels.get("provider") == provider:
            values[s.name][s.labels["user"], s.labels["model"]] = s.value
    limits = values["quotabell_quota_limit_tokens"]
    return {
        key: (used, limits.get(key)) for key, used in values["quotabell_quota_used_tokens"].items()
    }
