"""Keeps the series of ``/metrics`` below a number: who has some of their own, for good."""

from __future__ import annotations

from collections.abc import Mapping

from quotabell.aside import aside
from quotabell.domain.folding import OTHER, Folding
from quotabell.log import Logger
from quotabell.store.folds import FoldStore

_FILLED = 0.95  # of the most: not every further series of a named user is to fold another one


class Fold:
    """`folding` is in force; it changes by `follow` and `fold` only, and users only leave it."""

    def __init__(self, store: FoldStore, per_user: bool, max_series: int, log: Logger) -> None:
        self.folding = Folding(per_user)
        self._store = store
        self._max = max_series
        self._log = log
        self._generation = 0

    async def follow(self) -> None:
        """Learn what any replica decided; raises Unavailable."""
        if not self.folding.per_user:
            return
        generation = await self._store.generation()
        if generation != self._generation:
            self.folding = Folding(True, await self._store.named())
            self._generation = generation

    def too_many(self, series: int) -> bool:
        """Whether users are to be folded, as far as there are any left."""
        return series > self._max and self.folding.per_user and self.folding.named != set()

    async def fold(self, series: int, owned: Mapping[str, int]) -> bool:
        """Leave to each user who came late only a share of `OTHER`; whether anything changed.

        ``owned``: how many of the series each user has. Raises Unavailable, Conflict.
        """
        users = await aside(len(owned), _foldable, owned)
        if not users:
            return False
        room = int(self._max * _FILLED) - (series - sum(users.values()))
        before = self._generation
        kept = await self._store.keep(before, users, room)
        await self.follow()
        if kept is not None:
            self._log.warning(
                "too many series for /metrics: users were folded", max_series=self._max,
                series=series, named_users=kept, of_users=len(users),
            )  # fmt: skip
        return self._generation != before


def _foldable(owned: Mapping[str, int]) -> dict[str, int]:
    return {user: count for user, count in owned.items() if user not in ("", OTHER)}
