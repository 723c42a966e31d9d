"""A person is removed from everywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from quotabell.store.people import PeopleStore
from quotabell.store.quotas import QuotaStore

_PASSES = 5  # until nothing was found any more


async def forget(
    people: PeopleStore, quotas: QuotaStore, user: str, tell: Callable[[str], None]
) -> bool:
    """Remove a person and say what was removed; whether nothing is left, as far as is known.

    Other people's running sums stay as they are. So do counters of quotas that several people
    share: what was used of them was used.
    """
    removed: Counter[str] = Counter()
    for _ in range(_PASSES):
        found = await _pass(people, user)
        removed += found
        if not found:
            break
    for table, rows in sorted(removed.items()):
        tell(f"  {table}: {rows} removed")
    if not removed:
        tell("  nothing was known")
    if removed["usage_events"]:
        shared = [q.name for q in (await quotas.in_force()).book.quotas if "user" not in q.per]
        if shared:
            tell(
                f"  {', '.join(shared)}: count several people and keep what was used; "
                "quotabell recount takes it off"
            )
    return not found


async def _pass(people: PeopleStore, user: str) -> Counter[str]:
    """Remove what is there now; how many rows of which table."""
    found: Counter[str] = Counter()

    def note(table: str, rows: int) -> None:
        if rows:
            found[table] += rows

    await people.remove(user, note)
    return found
