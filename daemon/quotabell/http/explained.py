"""How reports would count, as an answer."""

from __future__ import annotations

from datetime import date, datetime

import msgspec

from quotabell.domain.events import Outcome, UsageEvent
from quotabell.domain.explain import Explained


class ItemFault(msgspec.Struct):
    """One offending value."""

    field: str
    message: str


class RejectedItem(msgspec.Struct):
    """An item that was refused; ``index`` is its place in the body."""

    index: int
    errors: list[ItemFault]


class Tokens(msgspec.Struct, rename="camel"):
    """Tokens by kind; the kinds are disjoint."""

    input: int
    cache_read: int
    cache_write: int
    output: int
    reasoning: int
    other: int


class CallKey(msgspec.Struct):
    """What makes two events reports of one call."""

    source: str
    id: str
    day: date


class ChargedQuota(msgspec.Struct, rename="camel"):
    """A counter that the event would be added to."""

    quota: str
    user_id: str | None
    provider: str
    model: str
    period_start: datetime
    period_end: datetime
    amount: int
    limit: int


class ExplainedItem(msgspec.Struct, rename="camel"):
    """One item: whose it would be, what it counts, and what it would be added to. Of a repeat
    the first report decides whose it is and when."""

    index: int
    outcome: Outcome
    source: str
    id: str | None
    time: datetime
    provider: str
    model: str
    user_id: str | None
    kinds: Tokens
    total_tokens: int
    duplicate_of: CallKey | None
    quotas: list[ChargedQuota]


class Explanation(msgspec.Struct):
    """How a body would count; nothing of it was stored."""

    format: str
    items: list[ExplainedItem]
    rejected: list[RejectedItem]


def explained_item(index: int, event: UsageEvent, explained: Explained) -> ExplainedItem:
    """The answer for one event of a body."""
    call = explained.counts_as
    return ExplainedItem(
        index=index,
        outcome=explained.outcome,
        source=event.source,
        id=event.id,
        time=call.at,
        provider=call.provider,
        model=call.model,
        user_id=call.user_id or None,
        kinds=Tokens(*call.kinds),
        total_tokens=call.kinds.total,
        duplicate_of=CallKey(*explained.repeats) if explained.repeats else None,
        quotas=[
            ChargedQuota(
                quota=charge.quota,
                user_id=charge.user_id or None,
                provider=charge.provider,
                model=charge.model,
                period_start=charge.period_start,
                period_end=charge.period_end,
                amount=charge.amount,
                limit=charge.limit,
            )
            for charge in explained.charges
        ],
    )
