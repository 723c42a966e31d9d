"""The usage families in the Prometheus text format 0.0.4.

Each quota state is rendered once into its lines; a scrape only joins them, column by column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Protocol

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

FAMILIES = (
    (
        "quotabell_quota_used_tokens",
        "Tokens used of a quota in its present period.",
    ),
    (
        "quotabell_quota_limit_tokens",
        "Limit of a quota; absent while it is not known.",
    ),
    (
        "quotabell_quota_used_ratio",
        "Used share of a quota's limit, 1 is all of it; absent while the limit is not known.",
    ),
    (
        "quotabell_quota_reset_timestamp_seconds",
        "When the present period of a quota ends.",
    ),
)

Lines = tuple[str, str, str, str]
"""A state's line in each of `FAMILIES`, empty where it has none."""

Columns = tuple[dict[str, str], ...]
"""For each of `FAMILIES` the lines by the id of their state."""


class Exposed(Protocol):
    """What of a quota state is exposed."""

    @property
    def id(self) -> str: ...
    @property
    def quota(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def user_id(self) -> str: ...
    @property
    def tokens_used(self) -> int: ...
    @property
    def token_limit(self) -> int | None: ...
    @property
    def period_end(self) -> datetime | None: ...


def escape(value: str) -> str:
    """A label value as the text format wants it: backslash, newline and quote escaped."""
    if "\\" in value or '"' in value or "\n" in value:
        return value.translate(_ESCAPES)
    return value


def lines(state: Exposed) -> Lines:
    """A quota state's lines."""
    labels = (
        f'{{quota="{escape(state.quota)}",provider="{escape(state.provider)}",'
        f'model="{escape(state.model)}",user="{escape(state.user_id)}"}}'
    )
    used, limit, end = state.tokens_used, state.token_limit, state.period_end
    return (
        f"{FAMILIES[0][0]}{labels} {used}\n",
        f"{FAMILIES[1][0]}{labels} {limit}\n" if limit else "",
        f"{FAMILIES[2][0]}{labels} {used / limit!r}\n" if limit else "",
        f"{FAMILIES[3][0]}{labels} {end.timestamp()!r}\n" if end else "",
    )


def columns() -> Columns:
    """The columns of no states."""
    return tuple({} for _ in FAMILIES)


def put(into: Columns, states: Iterable[Exposed]) -> None:
    """Add or replace the lines of some states."""
    for state in states:
        key = state.id
        for column, line in zip(into, lines(state), strict=True):
            column[key] = line


def render(states: Columns) -> Iterator[str]:
    """The text in pieces, a family after the other; families without a line are left out."""
    for (name, text), column in zip(FAMILIES, states, strict=True):
        body = "".join(column.values())
        if body:
            yield f"# HELP {name} {text}\n# TYPE {name} gauge\n"
            yield body
