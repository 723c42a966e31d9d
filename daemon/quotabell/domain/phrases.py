"""What is said of one quota: its name, how much, until when, by whom."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from quotabell.domain import burn, figures
from quotabell.domain.facts import Audience, Part, QuotaFacts
from quotabell.domain.names import shown

REPORTED: Final = "reported"
ANY: Final = "*"
RUNS_OUT: Final = "runs out in"
USED_UP: Final = "used up"
_TOP: Final = 3
_LABELS: Final = {
    "requests": "requests",
    "input_tokens": "input tokens",
    "output_tokens": "output tokens",
    "5h": "5 h limit",
    "7d": "7 d limit",
    "tokens": "",
}


def name(facts: QuotaFacts, width: int) -> str:
    """ "daily, openai / gpt-5", or for what the provider told "openai (5 h limit)"."""
    own, _, label = facts.quota.partition(":")
    pair = " / ".join(shown(n, width) for n in (facts.provider, facts.model) if n not in ("", ANY))
    if own != REPORTED:
        return ", ".join(filter(None, (shown(facts.quota, width) if facts.quota else "", pair)))
    label = _LABELS[label] if label in _LABELS else shown(label, width) if label else ""
    return f"{pair or 'every model'} ({label})" if label else pair or "every model"


def limit(facts: QuotaFacts) -> int | None:
    """The limit if it is one."""
    return facts.limit if facts.limit is not None and facts.limit > 0 else None


def percent(facts: QuotaFacts) -> str | None:
    """How much of the limit is used."""
    of = limit(facts)
    reached = facts.level if facts.state == "firing" else None
    return None if of is None else figures.percent(facts.used, of, reached)


def amounts(facts: QuotaFacts, audience: Audience, width: int) -> str:
    """ "1.8 M of 2 M tokens by alice"."""
    of, whom = limit(facts), by_whom(facts, audience, width)
    if facts.unit == "percent":
        return f"{percent(facts) or figures.amount(facts.used)} used{whom}"
    if of is None:
        return f"{figures.amount(facts.used)} {facts.unit}{whom}, limit unknown"
    return f"{figures.of(facts.used, of)} {facts.unit}{whom}"


def by_whom(facts: QuotaFacts, audience: Audience, width: int) -> str:
    """Whose usage it is: for operators by name; the owner knows, and others may not."""
    if not facts.user or audience == "owner":
        return ""
    return f" by {shown(facts.user, width)}" if audience == "operators" else " by one user"


def left(facts: QuotaFacts) -> int | None:
    """What is left of the limit; 0 or less: nothing."""
    of = limit(facts)
    return None if of is None else of - facts.used


def speed(facts: QuotaFacts) -> float | None:
    """The burn, as far as it is a number."""
    known = facts.burn is not None and math.isfinite(facts.burn) and facts.burn >= 0
    return facts.burn if known else None


def exhausts_at(facts: QuotaFacts) -> datetime | None:
    """When the limit is reached if it goes on like this; None: never, already or unknown."""
    if (left(facts) or 0) <= 0:
        return None
    return facts.exhausts_at or burn.exhausts_at(
        facts.used, limit(facts), speed(facts), facts.now, None
    )


def resets_in(facts: QuotaFacts) -> float | None:
    """Seconds until the reset, if that is to come."""
    seconds = (facts.resets_at - facts.now).total_seconds() if facts.resets_at else 0.0
    return seconds if seconds > 0 else None


def lasts(facts: QuotaFacts, at: datetime) -> bool:
    """Whether the reset comes before the limit is reached."""
    return bool(resets_in(facts) and facts.resets_at and at >= facts.resets_at)


def until_empty(facts: QuotaFacts) -> str | None:
    """ "runs out in about 42 min", "used up", "240 k over"."""
    rest = left(facts)
    if rest is None:
        return None
    if rest <= 0:
        return USED_UP if rest == 0 or facts.unit == "percent" else f"{figures.amount(-rest)} over"
    at = exhausts_at(facts)
    if at is None:
        return None
    if lasts(facts, at):
        return "lasts until the reset"
    return f"{RUNS_OUT} " + figures.about((at - facts.now).total_seconds())


def pace(facts: QuotaFacts) -> str | None:
    """How fast it is used: "31 k tokens a minute"."""
    per_second = speed(facts)
    if not per_second or facts.unit == "percent":
        return None
    number, each = figures.rate(per_second)
    return None if number == "0" else f"{number} {facts.unit} {_a(each)}"


def sustainable(facts: QuotaFacts) -> str | None:
    """The pace at which it lasts, where it does not at the present one."""
    seconds, rest, at = resets_in(facts), left(facts), exhausts_at(facts)
    if not seconds or not rest or at is None or lasts(facts, at) or facts.unit == "percent":
        return None
    each = timedelta(hours=1) if seconds > 3600 else timedelta(minutes=1)
    number = int(rest * each.total_seconds() / seconds)
    unit = "hour" if seconds > 3600 else "minute"
    return f"{figures.amount(number)} {facts.unit} {_a(unit)}" if number else None


def _a(unit: str) -> str:
    return f"an {unit}" if unit == "hour" else f"a {unit}"


def contributors(facts: QuotaFacts, audience: Audience, width: int) -> list[str]:
    """ "alice 62 %" of up to three. Users of a shared quota for operators; else models, where
    the quota counts several."""
    found = facts.contributors
    if found is None:
        return []
    parts: tuple[Part, ...] = ()
    if not facts.user and audience == "operators":
        parts = found.users
    several = facts.model in ("", ANY)
    tells = audience != "others" or not facts.user
    if len([*_shares(parts, found.total)]) < 2 and several and tells:
        parts = found.models
    return [
        f"{shown(part.name, width) if part.name else 'nobody in particular'} {share}"
        for part, share in _shares(parts, found.total)
    ][:_TOP]


def _shares(parts: tuple[Part, ...], total: int) -> Iterator[tuple[Part, str]]:
    for part in parts:
        if share := figures.share(part.used, total):
            yield part, share


def lately(facts: QuotaFacts) -> str:
    """ "the last hour", or of how long the contributors are known."""
    seconds = facts.contributors.seconds if facts.contributors else 3600.0
    if not seconds < 3600:
        return "the last hour"
    return "the last minute" if seconds < 120 else f"the last {figures.duration(seconds)}"
