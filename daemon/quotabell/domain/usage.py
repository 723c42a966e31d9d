"""What programs report, and what becomes of reports that meet in one batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

BIGINT_MAX = 2**63 - 1
NAME_MAX = 200  # characters of a provider, model, user or quota name
REPORTED = "reported"

Key = tuple[str, str, str, str]
"""(user, quota, provider, model): what one snapshot row stands for."""


class Snapshot(NamedTuple):
    """The provider says that ``tokens_used`` of ``token_limit`` are used now.

    ``token_limit`` None: unknown, so no percentage and no alert. ``timestamp`` None: the
    moment of receipt. ``user_id`` empty: nobody in particular. ``unit``: tokens, requests or
    percent. ``reset``: when nothing of the limit will be used any more; None: not known.
    """

    provider: str
    model: str
    tokens_used: int
    token_limit: int | None
    user_id: str = ""
    timestamp: datetime | None = None
    quota: str = REPORTED
    unit: str = "tokens"
    reset: datetime | None = None

    @property
    def key(self) -> Key:
        return (self.user_id, self.quota, self.provider, self.model)

    @property
    def percentage(self) -> float | None:
        """Percent of the limit, unrounded; computed as the database's column is."""
        return self.tokens_used * 100.0 / self.token_limit if self.token_limit else None


class StoredState(NamedTuple):
    """A quota state as the database holds it after a batch.

    ``before`` is the report time that the row had before the batch (None: a new row),
    ``clock`` the database's time of the transaction.
    """

    id: str
    user_id: str
    quota: str
    provider: str
    model: str
    tokens_used: int
    token_limit: int | None
    percentage: float | None
    reported_at: datetime
    period_end: datetime | None
    before: datetime | None
    clock: datetime
    unit: str = "tokens"

    @property
    def key(self) -> Key:
        return (self.user_id, self.quota, self.provider, self.model)


class Receipt(NamedTuple):
    """The answer to one snapshot: what is stored now, and whether it was this one."""

    tokens_used: int
    token_limit: int | None
    percentage: float | None
    reported_at: datetime
    applied: bool


class Waves(NamedTuple):
    """One batch as at most two upserts of one row a key each, to be run in this order.

    Of several reports of one key only the newest is worth storing, but a peak among them
    may cross a threshold that the newest no longer reaches. Such peaks are written first,
    so that the alert of a spike is never lost to batching.
    """

    peaks: list[Snapshot]
    finals: list[Snapshot]


def plan(batch: Iterable[Snapshot], now: datetime) -> Waves:
    """Reduce a batch, given in order of arrival, to what must be written.

    ``now`` caps times ahead of it: a report from the future counts as just received. It is
    the caller's estimate of the database's clock, which caps what is written once more.
    """
    final: dict[Key, Snapshot] = {}
    peak: dict[Key, Snapshot] = {}
    for item in batch:
        key = item.key
        held = final.get(key)
        if held is None:
            final[key] = peak[key] = item
            continue
        if _order(item, now) >= _order(held, now):
            final[key] = item
            if (item.percentage or 0.0) >= (peak[key].percentage or 0.0):
                peak[key] = item
    return Waves(
        peaks=[
            # Both counting as just received, the final one must not be the older by a hair.
            p if _order(p, now) < now else p._replace(timestamp=final[k].timestamp)
            for k, p in peak.items()
            if p is not final[k] and (p.percentage or 0.0) > (final[k].percentage or 0.0)
        ],
        finals=list(final.values()),
    )


def receipts(
    batch: Sequence[Snapshot], stored: dict[Key, StoredState], now: datetime
) -> list[Receipt]:
    """The answer to each item of a batch, in its order.

    An item that was newest when its turn came is answered with its own values, an older
    one with what is stored. ``stored[key].before`` is the report time before the batch,
    ``now`` the one that the batch was planned with: it decides within the batch, while the
    database's clock decides against what was there before.
    """
    newest: dict[Key, datetime] = {}
    answers = []
    for item in batch:
        key = item.key
        state = stored[key]
        order, held = _order(item, now), newest.get(key)
        clock = state.clock
        at = clock if item.timestamp is None else min(item.timestamp, clock)
        in_time = state.before is None or at >= state.before
        if in_time and (held is None or order >= held):
            newest[key] = order
            answers.append(Receipt(item.tokens_used, item.token_limit, item.percentage, at, True))
        else:
            answers.append(
                Receipt(
                    state.tokens_used, state.token_limit, state.percentage, state.reported_at, False
                )
            )
    return answers


def shown_percentage(percentage: float | None) -> float | None:
    """A percentage for people: rounded down to two decimals, so 99.999 never shows as 100.

    The highest number of hundredths that is not above it; the product alone may be off by
    one, as 0.29 * 100 is 28.999….
    """
    if percentage is None:
        return None
    hundredths = int(percentage * 100)
    if (hundredths + 1) / 100 <= percentage:
        hundredths += 1
    elif hundredths / 100 > percentage:
        hundredths -= 1
    return hundredths / 100


def _order(item: Snapshot, now: datetime) -> datetime:
    return now if item.timestamp is None else min(item.timestamp, now)
