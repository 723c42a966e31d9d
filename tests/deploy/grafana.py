"""What Grafana does to a query before it asks Prometheus."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

ALL = ("$__all",)
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::(\w+))?\}|(\w+))")
_SPECIAL = re.compile(r"[$^*{}\[\]'+?.()|]")


def resolved(
    expression: str, chosen: Mapping[str, str], *, scrape: int, step: int, shown: int
) -> str:
    """With every variable replaced; ``chosen`` as `interpolated` gives it.

    Seconds: ``scrape`` between two scrapes, as the data source says; ``step`` between two points;
    ``shown`` of the time range. The rate interval is four scrapes at least, so that a rate always
    has two samples.
    """
    built_in = {
        "__interval": f"{step}s",
        "__rate_interval": f"{max(step + scrape, 4 * scrape)}s",
        "__range": f"{shown}s",
    }
    known = {**built_in, **chosen}
    return _VARIABLE.sub(lambda found: known[found[1] or found[3]], expression)


def interpolated(page: Mapping[str, Any], choices: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """What stands for the variables of a dashboard in expressions; what is not chosen: all."""
    return {
        variable["name"]: _value(variable, choices.get(variable["name"], ALL))
        for variable in page["templating"]["list"]
        if variable["type"] == "query"
    }


def _value(variable: Mapping[str, Any], values: Sequence[str]) -> str:
    """All is written as it is; values are escaped, first for the expression, then for its text."""
    if values == ALL:
        return str(variable["allValue"])
    escaped = [_SPECIAL.sub(r"\\\\\g<0>", value.replace("\\", "\\\\\\\\")) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def offered(variable: Mapping[str, Any], values: Sequence[str]) -> list[str]:
    """Which of the values that Prometheus has may be chosen."""
    pattern = variable["regex"]
    if not pattern:
        return [value for value in values if value]
    assert pattern[0] == pattern[-1] == "/", pattern
    return [value for value in values if re.search(pattern[1:-1], value)]
