"""Rows as the columns that a statement takes apart again with unnest()."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

AT_ONCE = 1_000
"""Rows of one statement at most. Their encoding is one step of the driver, during which the event
loop waits: 10 ms for so many."""

_PART = 500  # rows of each, where there are more

Columns = tuple[tuple[Any, ...], ...]


def in_parts(
    rows: Sequence[tuple[Any, ...]], key: Callable[[tuple[Any, ...]], Any]
) -> list[Columns]:
    """The columns of rows, in parts for a statement each, all of one transaction.

    The statements lock rows in the order of their keys, by collation C. So that concurrent
    writers never deadlock, that is also the order of the parts.
    """
    if len(rows) <= AT_ONCE:
        return [tuple(zip(*rows, strict=True))]
    rows = sorted(rows, key=key)
    return [
        tuple(zip(*rows[start : start + _PART], strict=True))
        for start in range(0, len(rows), _PART)
    ]
