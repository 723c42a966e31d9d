"""Work that several ask for at once is done once, and never before it was asked for."""

from __future__ import annotations

import asyncio

import pytest

from quotabell.service.shared import Shared


class Slow:
    """Counts its runs; each lasts until it is let go."""

    def __init__(self) -> None:
        self.begun = 0
        self.go = asyncio.Semaphore(0)

    async def make(self, key: str) -> int:
        self.begun += 1
        number = self.begun
        await self.go.acquire()
        if key == "broken":
            raise ValueError(number)
        return number


async def _ask(shared: Shared[str, int], key: str, times: int) -> list[asyncio.Task[int]]:
    asked = [asyncio.create_task(shared(key)) for _ in range(times)]
    for _ in range(5):
        await asyncio.sleep(0)
    return asked


async def test_who_asks_at_once_shares_a_run_and_who_asks_during_it_the_next_one() -> None:
    slow = Slow()
    shared = Shared(slow.make)
    first = await _ask(shared, "a", 20)
    later = await _ask(shared, "a", 20)
    other = await _ask(shared, "b", 2)
    assert slow.begun == 2

    for _ in range(3):
        slow.go.release()
    assert set(await asyncio.gather(*first)) == {1}
    assert set(await asyncio.gather(*other)) == {2}
    assert set(await asyncio.gather(*later)) == {3}
    slow.go.release()
    assert await shared("a") == 4


async def test_who_gives_up_stops_nobody_and_an_error_reaches_all() -> None:
    slow = Slow()
    shared = Shared(slow.make)
    gone, waiting = await _ask(shared, "a", 2)
    gone.cancel()
    broken = await _ask(shared, "broken", 2)
    slow.go.release()
    slow.go.release()

    assert await waiting == 1
    for task in broken:
        with pytest.raises(ValueError, match="2"):
            await task
    slow.go.release()
    assert await shared("a") == 3
