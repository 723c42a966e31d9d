"""The usage families as Prometheus reads them, in text format 0.0.4 or OpenMetrics 1.0.

Each quota state and each running sum is rendered once into its lines, which are the same in
both; a scrape only joins them, family by family.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol, TypeVar

from quotabell.domain.burn import exhausts_at
from quotabell.domain.events import KINDS
from quotabell.domain.folding import BANDS, Summand

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})


class Family(NamedTuple):
    """A family of series: its name, what it tells, and its Prometheus type."""

    name: str
    text: str
    type: str = "gauge"


QUOTA_FAMILIES = (
    Family(
        "quotabell_quota_used_tokens",
        "Tokens used of a quota in its present period; absent for quotas that count anything else.",
    ),
    Family(
        "quotabell_quota_limit_tokens",
        "Limit of a quota of tokens; absent while it is not known.",
    ),
    Family(
        "quotabell_quota_used_ratio",
        "Used share of a quota's limit, whatever it counts, 1 is all of it; absent while the limit"
        " is not known.",
    ),
    Family("quotabell_quota_reset_timestamp_seconds", "When the present period of a quota ends."),
    Family(
        "quotabell_quota_used_requests",
        "Requests used of a quota that a provider counts in requests.",
    ),
    Family(
        "quotabell_quota_limit_requests",
        "Limit of a quota that a provider counts in requests; absent while it is not known.",
    ),
)
BURN_FAMILIES = (
    Family(
        "quotabell_quota_burn_tokens_per_second",
        "How fast a quota of tokens is used at present; absent while that is not known.",
    ),
    Family(
        "quotabell_quota_exhaustion_timestamp_seconds",
        "When a quota's limit is reached at its present burn; absent if not in this period.",
    ),
)
ALERT_FAMILIES = (
    Family(
        "quotabell_alert_level_percent",
        "Level at which an alert of a quota fires; absent while none does.",
    ),
)
SOURCE_FAMILIES = (
    Family(
        "quotabell_source_last_event_timestamp_seconds",
        "When a source's last event was received.",
    ),
    Family(
        "quotabell_source_stale",
        "Whether a source that reported regularly stopped, so that its alert fires.",
    ),
)
TOTAL_FAMILIES = (
    Family("quotabell_tokens_total", "Tokens of usage events by kind.", "counter"),
    Family("quotabell_requests_total", "Usage events.", "counter"),
    Family("quotabell_cost_usd_total", "Cost of usage events as their senders said.", "counter"),
)

SUBJECT_FAMILIES = (
    Family(
        "quotabell_quota_subjects",
        "How many subjects of a quota have used so much of their limit, by the percentage;"
        " those whose limit is not known are in no band.",
    ),
)

Piece = TypeVar("Piece")

Lines = tuple[str, ...]
"""What a state, or a sum, has in each family; empty where it has nothing."""

Columns = tuple[dict[object, str], ...]
"""For each family the lines by the key of what they are of."""


class Labelled(Protocol):
    """What tells the series of a quota state from others."""

    @property
    def quota(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def user_id(self) -> str: ...


class Exposed(Labelled, Protocol):
    """What of a quota state is exposed."""

    @property
    def tokens_used(self) -> int: ...
    @property
    def token_limit(self) -> int | None: ...
    @property
    def period_end(self) -> datetime | None: ...
    @property
    def unit(self) -> str: ...


class Burning(Exposed, Protocol):
    """What of a burn is exposed: tokens per second, and of when the figures are."""

    @property
    def burn(self) -> float: ...
    @property
    def at(self) -> datetime: ...


class Firing(Labelled, Protocol):
    """What of an alert is exposed."""

    @property
    def kind(self) -> str: ...
    @property
    def level(self) -> float: ...


def escape(value: str) -> str:
    """A label value as the text format wants it: backslash, newline and quote escaped."""
    if "\\" in value or '"' in value or "\n" in value:
        return value.translate(_ESCAPES)
    return value


def state_lines(state: Exposed, user: bool = True) -> Lines:
    """A quota state's lines. Of one that counts percent only the ratio tells how much it is.

    Here and below, ``user``: whether they have the label of that name.
    """
    labels = _labels(state, user)
    used, limit, end, unit = state.tokens_used, state.token_limit, state.period_end, state.unit
    names = [family.name for family in QUOTA_FAMILIES]
    return (
        f"{names[0]}{labels} {used}\n" if unit == "tokens" else "",
        f"{names[1]}{labels} {limit}\n" if limit and unit == "tokens" else "",
        f"{names[2]}{labels} {used / limit!r}\n" if limit else "",
        f"{names[3]}{labels} {end.timestamp()!r}\n" if end else "",
        f"{names[4]}{labels} {used}\n" if unit == "requests" else "",
        f"{names[5]}{labels} {limit}\n" if limit and unit == "requests" else "",
    )


def burn_lines(state: Burning, user: bool = True) -> Lines:
    """The lines of a quota state whose burn is known."""
    labels = _labels(state, user)
    rate, exhaustion = (family.name for family in BURN_FAMILIES)
    reached = exhausts_at(
        state.tokens_used, state.token_limit, state.burn, state.at, state.period_end
    )
    return (
        f"{rate}{labels} {state.burn!r}\n" if state.unit == "tokens" else "",
        f"{exhaustion}{labels} {reached.timestamp()!r}\n" if reached else "",
    )


def alert_lines(alert: Firing, user: bool = True) -> Lines:
    """The lines of an alert that fires."""
    labels = f'{_labels(alert, user)[:-1]},kind="{escape(alert.kind)}"}}'
    return (f"{ALERT_FAMILIES[0].name}{labels} {alert.level!r}\n",)


def source_lines(name: str, last_event_at: datetime | None, stale: bool = False) -> Lines:
    """A source's lines; none before its first event."""
    if last_event_at is None:
        return ("", "")
    last, silent = (family.name for family in SOURCE_FAMILIES)
    labels = f'{{source="{escape(name)}"}}'
    return (
        f"{last}{labels} {last_event_at.timestamp()!r}\n",
        f"{silent}{labels} {int(stale)}\n",
    )


def subject_lines(quota: str, counts: Sequence[int]) -> Lines:
    """How many subjects of a quota are in each band, of all `BANDS`."""
    name, labels = SUBJECT_FAMILIES[0].name, f'quota="{escape(quota)}"'
    return (
        "".join(
            f'{name}{{{labels},band="{band}"}} {count}\n'
            for band, count in zip(BANDS, counts, strict=True)
        ),
    )


def _labels(state: Labelled, user: bool) -> str:
    return (
        f'{{quota="{escape(state.quota)}",provider="{escape(state.provider)}",'
        f'model="{escape(state.model)}"' + (_user(state.user_id) if user else "") + "}"
    )


def _user(name: str) -> str:
    return f',user="{escape(name)}"'


def sum_lines(total: Summand, user: bool = True) -> Lines:
    """A running sum's lines. A kind that never occurred has none, a cost of 0 neither."""
    labels = f'provider="{escape(total.provider)}",model="{escape(total.model)}"'
    if user:
        labels += _user(total.user_id)
    tokens, requests, cost = (family.name for family in TOTAL_FAMILIES)
    return (
        "".join(
            f'{tokens}{{{labels},kind="{kind}"}} {amount}\n'
            for kind, amount in zip(KINDS, total.kinds, strict=True)
            if amount or kind in ("input", "output")
        ),
        f"{requests}{{{labels}}} {total.requests}\n",
        f"{cost}{{{labels}}} {float(total.cost_usd)!r}\n" if total.cost_usd else "",
    )


def columns(families: Sequence[Family]) -> Columns:
    """The columns of nothing yet."""
    return tuple({} for _ in families)


def render(
    families: Iterable[tuple[Family, Sequence[Piece]]],
    made: Callable[[str], Piece],
    openmetrics: bool = False,
) -> Iterator[Piece]:
    """The text in pieces, a family after the other with a heading that is ``made`` a piece;
    families without any are left out."""
    for family, pieces in families:
        if pieces:
            yield made(_heading(family, openmetrics))
            yield from pieces


def _heading(family: Family, openmetrics: bool) -> str:
    """OpenMetrics names a counter's family without the ending of its samples (§5.1.2.1)."""
    name, text, kind = family
    if openmetrics and kind == "counter":
        name = name.removesuffix("_total")
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
