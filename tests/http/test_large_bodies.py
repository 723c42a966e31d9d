"""The largest bodies that are taken hold nobody up: the event loop goes round meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

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
