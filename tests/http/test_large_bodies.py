"""The largest bodies that are taken hold nobody up: the event loop goes round meanwhile."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from quotabell.aside import undisturbed
from tests.http.client import Client
from tests.support import stall

pytestmark = pytest.mark.asyncio(loop_scope="module")

# A busy machine can only make it look worse: its caches are shared, and pages take longer. What a
# thread that only counts does to the loop grows as well.
TRIES = 6
# The others are measured by `make bench`.
FORMATS = ("litellm", "otlp-protobuf", "events", "otlp-json")


@pytest.fixture(autouse=True)
def started(client: Client) -> Iterator[None]:
    with stall.as_started():
        yield


@pytest.mark.parametrize("name", FORMATS)
async def test_a_body_of_30_mb_does_not_hold_the_event_loop(
    client: Client, tmp_path: Path, name: str
) -> None:
    large = stall.BODIES[name]
    file = tmp_path / "body"
    found = []
    for _ in range(TRIES):
        file.write_bytes(large.make())
        assert file.stat().st_size > 0.9 * stall.SIZE
        held = await stall.longest_hold(stall.sent(client.url, large, file))
        usual = await stall.longest_hold(asyncio.to_thread(stall.count))
        found.append((round(held * 1000), round(usual * 1000)))
        if held <= max(stall.BUDGET, 2 * usual):
            return
    raise AssertionError(f"the event loop was held for ms (and by a thread that counts): {found}")


async def test_a_step_that_holds_the_event_loop_is_seen() -> None:
    """On a busy machine a step may look shorter than it is, so it is a long one."""
    text = json.dumps([[n] for n in range(200_000)])

    async def decoding() -> None:
        await asyncio.to_thread(json.loads, f"[{','.join([text] * 10)}]")

    for _ in range(TRIES):
        if await stall.longest_hold(decoding()) > 2 * stall.BUDGET:
            return
    raise AssertionError("a decoder that took half a second at once was not seen")


async def test_large_bodies_at_once_leave_the_collector_off_until_the_last_is_done() -> None:
    begun, go_on = [threading.Event() for _ in range(2)], [threading.Event() for _ in range(2)]

    def work(n: int) -> None:
        begun[n].set()
        assert go_on[n].wait(30)

    threads = [
        asyncio.create_task(asyncio.to_thread(undisturbed, partial(work, n))) for n in (0, 1)
    ]
    for event in begun:
        assert await asyncio.to_thread(event.wait, 30)
    assert not gc.isenabled()
    go_on[0].set()
    await threads[0]
    assert not gc.isenabled()
    go_on[1].set()
    await threads[1]
    assert gc.isenabled()
