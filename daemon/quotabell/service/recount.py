"""Quotas counted anew, or checked, on command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from quotabell.errors import UnknownQuota
from quotabell.service.counting import Counting
from quotabell.store.audit import Audit, Difference, audit
from quotabell.store.quotas import QuotaStore

_SHOWN = 20  # differences
_POLL = 0.2  # seconds, while a daemon does the work


async def recount(
    store: QuotaStore, counting: Counting, quotas: Sequence[str], tell: Callable[[str], None]
) -> None:
    """Count quotas anew from their events, none: all of them, and wait until it is done.

    A daemon that runs counts along. Raises UnknownQuota for a quota that is not in force.
    """
    known = {quota.name for quota in (await store.in_force()).book.quotas}
    if unknown := set(quotas) - known:
        names = ", ".join(sorted(known)) or "none"
        raise UnknownQuota(
            f"no quota in force is named {', '.join(sorted(unknown))}; there are: {names}"
        )
    wanted = set(await store.count_again(list(quotas) or None))
    left = wanted
    while left:
        await counting.follow()
        at_work = {work.quota for work in await store.at_work()}
        for name in sorted(left - at_work):
            tell(f"{name}: counted anew")
        left &= at_work
        if left:
            await asyncio.sleep(_POLL)


async def check(store: QuotaStore, tell: Callable[[str], None]) -> bool:
    """Compare what quotas hold with their events; whether all is right."""
    found = await audit(store.database)
    for line in _lines(found):
        tell(line)
    return not found.differences


def _lines(found: Audit) -> list[str]:
    lines = [f"{name}: is being counted anew, not compared" for name in sorted(found.under_way)]
    lines += [_line(difference) for difference in found.differences[:_SHOWN]]
    wrong = len(found.differences)
    if wrong > _SHOWN:
        lines.append(f"and {wrong - _SHOWN} more")
    lines.append(
        f"{found.states} open counters compared with their events: "
        + (f"{wrong} differ; run quotabell recount" if wrong else "all agree")
    )
    return lines


def _line(difference: Difference) -> str:
    at = difference.counter
    of = " / ".join(name for name in (at.provider, at.model, at.user_id) if name not in ("", "*"))
    stored = "nothing" if difference.stored is None else difference.stored
    return (
        f"{at.quota}{f' ({of})' if of else ''} from {at.period_start:%Y-%m-%d %H:%M}Z: "
        f"holds {stored}, its events weigh {difference.counted}"
    )
