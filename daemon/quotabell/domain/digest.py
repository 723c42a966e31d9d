"""One message about many alerts at once: the worst few by name, the rest by number."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from quotabell.domain.names import shown

NAMED = 10  # at most, by name
LISTED = 100  # at most, for programs
NAME_ROOM = 48  # characters
_ROOM = 400  # characters of the names together

Facts = Mapping[str, Any]
"""What a notification's row holds of its alert: quota, provider, model, userId, percentage, …;
of a source or a channel its name as subject."""

_SHOWN = (
    "stateId", "subject", "userId", "quota", "provider", "model", "percentage", "tokensUsed",
    "tokenLimit", "threshold", "periodEnd", "reason",
)  # fmt: skip
_FIRING = {
    "threshold": ("quota", "above a threshold"),
    "forecast": ("quota", "forecast to run out"),
    "stale": ("source", "not reporting any more"),
    "channel": ("channel", "not delivering"),
}


class Digest(NamedTuple):
    """The words; ``data`` is what programs are told besides."""

    title: str
    body: str
    level: float | None
    data: dict[str, Any]


def compose(
    kind: str, *, ends: bool, number: int, worst: Sequence[Facts], named: bool = True
) -> Digest:
    """What to say of ``number`` alerts of a kind, of which ``worst`` are the first, worst first.

    ``named``: whether the reader may know the users.
    """
    if not named:
        worst = [{**facts, "userId": None} for facts in worst]
    what, state = ("alert", "resolved") if ends else _FIRING.get(kind, ("alert", "firing"))
    counted = f"{number:,} {what}{'s' if number != 1 else ''}"
    title = f"{counted} {'is' if number == 1 else 'are'} {state}"
    body = listing([label(facts) for facts in worst[:NAMED]], number)
    levels = [level for facts in worst if (level := _number(facts.get("level"))) is not None]
    return Digest(
        title=title,
        body=body,
        level=max(levels, default=None),
        data={
            "digest": True,
            # Whoever reads it: a digest has one kind of reader.
            "words": {to: [title, body, body] for to in ("operators", "owner", "others")},
            "count": number,
            "percentage": _number(worst[0].get("percentage")) if worst else None,
            "members": [{key: facts.get(key) for key in _SHOWN} for facts in worst[:LISTED]],
        },
    )


def label(facts: Facts) -> str:
    """Who and what, and how much of it: ``alice openai / gpt-5 91 %``; or which source."""
    if subject := _told(facts.get("subject")):
        return shown(subject, NAME_ROOM - 2)
    quota = str(facts.get("quota") or "")
    words = [
        str(facts.get("userId") or ""),
        "" if quota.startswith("reported") else quota,
        " / ".join(part for key in ("provider", "model") if (part := _told(facts.get(key)))),
    ]
    name = " ".join(word for word in words if word) or "?"
    if len(name) > NAME_ROOM:
        name = name[: NAME_ROOM - 1] + "…"
    percentage = _number(facts.get("percentage"))
    # Cut, not rounded: 99.99 % is not 100 %.
    return name if percentage is None else f"{name} {math.floor(percentage):,} %"


def listing(labels: Sequence[str], number: int) -> str:
    """As many labels as there is room for, and how many of ``number`` are left."""
    named: list[str] = []
    for one in labels:
        if named and sum(map(len, named)) + len(one) > _ROOM:
            break
        named.append(one)
    left = number - len(named)
    return ", ".join(named) + (f" and {left:,} more" if left > 0 else "")


def _told(value: object) -> str:
    return "" if value is None or value == "*" else str(value)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
