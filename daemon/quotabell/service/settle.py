"""The level under the edge of delivery: notifications whose end nobody wrote down."""

from __future__ import annotations

from quotabell.store.settling import START, SettlingStore

BATCH = 200  # notifications looked at in a round


class Settler:
    """A step of the evaluator's round."""

    def __init__(self, store: SettlingStore) -> None:
        self._store = store
        self._after = START

    async def forgotten(self) -> None:
        """Look at the next open notifications; settle those whose deliveries have ended.

        A replica may have died between a delivery's end and its notification's, or somebody
        held the row, or deleted the deliveries.
        """
        self._after = await self._store.settle_forgotten(self._after, BATCH)
