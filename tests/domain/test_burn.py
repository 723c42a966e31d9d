"""Where a burn leads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotabell.domain.burn import exhausts_at

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("used", "limit", "burn", "end", "expected"),
    [
        (40, 100, 1 / 60, None, HOUR),
        (40, 100, 1 / 60, 2 * HOUR, HOUR),
        (40, 100, 1 / 60, HOUR, None),
        (40, 100, 0.0, None, None),
        (40, 100, None, None, None),
        (40, None, 1.0, None, None),
        (100, 100, 1.0, None, None),
        (101, 100, 1.0, None, None),
        (0, 2**63 - 1, 1e-300, None, None),
        (0, 2**63 - 1, 1.0, None, None),
    ],
)
def test_the_limit_is_reached_within_the_period_or_not_at_all(
    used: int,
    limit: int | None,
    burn: float | None,
    end: timedelta | None,
    expected: timedelta | None,
) -> None:
    found = exhausts_at(used, limit, burn, NOW, None if end is None else NOW + end)

    assert found == (None if expected is None else NOW + expected)


@given(
    st.integers(0, 2**63 - 1),
    st.one_of(st.none(), st.integers(1, 2**63 - 1)),
    st.one_of(st.none(), st.floats(0, 1e30)),
)
def test_it_is_never_in_the_past_and_never_an_error(
    used: int, limit: int | None, burn: float | None
) -> None:
    found = exhausts_at(used, limit, burn, NOW, None)

    assert found is None or found >= NOW
