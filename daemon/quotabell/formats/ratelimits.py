"""What providers say of their own limits in the headers of their answers.

LiteLLM forwards them with every call: verbatim as ``llm_provider-<header>``, some also as
``x_ratelimit_…``. Understood are the headers of OpenAI and those who copied it, of Anthropic (API
and subscriptions) and of Codex plans.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from quotabell.domain.usage import BIGINT_MAX, NAME_MAX, Snapshot
from quotabell.formats import event_body

__all__ = ["Snapshot", "learned"]

ANY_MODEL = "*"  # a plan's limit holds for all models together
_FORWARDED = "llm_provider-"
_WHOLE = re.compile(r"-?[0-9]{1,19}(?:\.0+)?")
_FRACTION = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,18})?")
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|us|µs|ns|d|h|m|s))+")
_PART = re.compile(r"([0-9.]+)(ms|us|µs|ns|d|h|m|s)")
_SECONDS = {
    **{"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0},
    **{"ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9},
}
_EPOCH_FROM = 1e9  # a larger number of seconds is a time, a smaller one a duration


class _Counted(NamedTuple):
    """A limit as three headers: how much there is, how much is left, when it is whole again."""

    quota: str
    unit: str
    limit: str
    remaining: str
    reset: str


class _Share(NamedTuple):
    """A limit of which only the used share is told: ``whole`` stands for all of it."""

    quota: str
    used: str
    whole: float
    reset: str


COUNTED = (
    # Of two that tell the same the first is taken.
    *(
        _Counted(
            f"reported:{kind.replace('-', '_')}",
            "requests" if kind == "requests" else "tokens",
            f"anthropic-ratelimit-{kind}-limit",
            f"anthropic-ratelimit-{kind}-remaining",
            f"anthropic-ratelimit-{kind}-reset",
        )
        for kind in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
    *(
        _Counted(
            f"reported:{kind}",
            kind,
            f"x-ratelimit-limit-{kind}",
            f"x-ratelimit-remaining-{kind}",
            f"x-ratelimit-reset-{kind}",
        )
        for kind in ("requests", "tokens")
    ),
)

SHARES = (
    *(
        _Share(
            f"reported:{window}",
            f"anthropic-ratelimit-unified-{window}-utilization",
            1.0,
            f"anthropic-ratelimit-unified-{window}-reset",
        )
        for window in ("5h", "7d")
    ),
)

CODEX = ("primary", "secondary")
_WINDOWS = {300: "reported:5h", 10080: "reported:7d"}  # minutes


def learned(
    headers: Mapping[str, Any], provider: str, model: str, at: datetime, now: datetime
) -> list[Snapshot]:
    """The limits that the headers of an answer tell of, which came at ``at``.

    −1 and 0 mean that a limit is not known (Azure sends them). A limit that was whole again
    before ``now`` is left out: nothing of it is used any more.
    """
    if max(len(provider), len(model)) > NAME_MAX or any(
        map(event_body.bad_text, (provider, model))
    ):
        return []
    plain = {_name(name): value for name, value in headers.items()}
    found: dict[str, Snapshot] = {}
    for counted in COUNTED:
        limit, left = _whole(plain.get(counted.limit)), _whole(plain.get(counted.remaining))
        if limit is None or left is None or limit <= 0 or left < 0:
            continue
        used = max(0, limit - left)
        state = Snapshot(provider, model, used, limit, "", at, counted.quota, counted.unit)
        found.setdefault(counted.quota, state._replace(reset=_reset(plain.get(counted.reset), at)))
    shares = [*SHARES, *_codex(plain)]
    for share in shares:
        used_share = _number(plain.get(share.used))
        if used_share is None:
            continue
        percent = int(used_share / share.whole * 100 + 1e-9)
        reset = _reset(plain.get(share.reset), at)
        found.setdefault(
            share.quota,
            Snapshot(provider, ANY_MODEL, percent, 100, "", at, share.quota, "percent", reset),
        )
    return [state for state in found.values() if state.reset is None or state.reset > now]


def _name(header: str) -> str:
    return header.lower().removeprefix(_FORWARDED).replace("_", "-")


def _codex(headers: Mapping[str, Any]) -> list[_Share]:
    found = []
    for which in CODEX:
        minutes = _whole(headers.get(f"x-codex-{which}-window-minutes"))
        quota = _WINDOWS.get(minutes or 0)
        if quota is not None:
            at, after = f"x-codex-{which}-reset-at", f"x-codex-{which}-reset-after-seconds"
            reset = at if at in headers else after
            found.append(_Share(quota, f"x-codex-{which}-used-percent", 100.0, reset))
    return found


def _whole(value: Any) -> int | None:
    text = str(value) if isinstance(value, int | float) else value
    if not isinstance(text, str) or not _WHOLE.fullmatch(text):
        return None
    number = int(text.partition(".")[0])
    return number if abs(number) <= BIGINT_MAX else None


def _number(value: Any) -> float | None:
    text = str(value) if isinstance(value, int | float) else value
    return float(text) if isinstance(text, str) and _FRACTION.fullmatch(text) else None


def _reset(value: Any, at: datetime) -> datetime | None:
    """A time from a duration (``1m30s``, ``6ms``, seconds), seconds since 1970, or RFC 3339."""
    try:
        return _moment(value, at)
    except (OverflowError, ValueError):
        return None


def _moment(value: Any, at: datetime) -> datetime | None:
    seconds = _number(value)
    if seconds is not None:
        return (
            event_body.moment(seconds)
            if seconds >= _EPOCH_FROM
            else at + timedelta(seconds=seconds)
        )
    if not isinstance(value, str):
        return None
    if _DURATION.fullmatch(value):
        parts = ((float(n), _SECONDS[unit]) for n, unit in _PART.findall(value))
        return at + timedelta(seconds=sum(n * unit for n, unit in parts))
    return event_body.moment(value)
