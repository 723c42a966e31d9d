"""Large bodies that come at once are bounded together; small ones pass by."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import io
import json
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from quotabell.http import bodies
from quotabell.http.bodies import Bodies
from tests.http.client import UPDATE, Client, snapshot
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 1024 * 1024
LARGE = 31 * MIB
AT_ONCE = bodies.TOGETHER // LARGE

Upload = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def unfinished(client: Client, number: int) -> AsyncIterator[list[Upload]]:
    """Uploads of which the first bytes were sent."""
    place = urlsplit(client.url)
    found: list[Upload] = []
    try:
        for _ in range(number):
            found.append(await asyncio.open_connection(place.hostname, place.port))
            head = (
                "POST /v1/traces HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Type: application/json\r\nContent-Length: {LARGE}\r\n\r\n{{"
            )
            found[-1][1].write(head.encode())
            await found[-1][1].drain()
        yield found
    finally:
        for _, writer in found:
            writer.close()


async def test_beyond_the_room_large_bodies_are_asked_to_come_again_and_small_ones_are_taken(
    client: Client,
) -> None:
    async with unfinished(client, AT_ONCE) as uploads:
        large = b'{"resourceSpans":[]}'.ljust(bodies.TOGETHER % LARGE + MIB)
        kind = {"Content-Type": "application/json"}
        # The first that finds no room says that all of the others have theirs.
        async with asyncio.timeout(60):
            while (
                refused := await client.post("/v1/traces", data=io.BytesIO(large), headers=kind)
            ).status == 200:
                pass

        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        assert refused.json["code"] == 14  # google.rpc.Code.UNAVAILABLE
        problem = (await client.post(UPDATE, data=io.BytesIO(large), headers=kind)).problem(503)
        assert "large bodies" in problem["detail"]
        assert (await client.update(snapshot(model="small"))).status == 200
        assert (await client.post("/v1/traces", data=b"{}", headers=kind)).status == 200

        uploads[0][1].close()

        async def taken() -> bool:
            return (
                await client.post("/v1/traces", data=io.BytesIO(large), headers=kind)
            ).status == 200

        await eventually(taken, timeout=60)


async def test_a_small_body_that_is_large_unpacked_needs_room_as_well(client: Client) -> None:
    body = gzip.compress(json.dumps({"resourceSpans": []}).encode().ljust(LARGE))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with unfinished(client, AT_ONCE):
        async with asyncio.timeout(60):
            while (await client.post("/v1/traces", data=body, headers=headers)).status == 200:
                pass


async def test_who_waits_is_served_in_turn_and_what_is_given_back_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    room = Bodies(100)
    first = await room.share(80)
    waiting = [asyncio.create_task(room.share(60)), asyncio.create_task(room.share(10))]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)  # the small one does not overtake
    first.shrink(30)
    second, third = await asyncio.gather(*waiting)
    assert room.free == 0

    monkeypatch.setattr(bodies, "PATIENCE", 0.01)
    with pytest.raises(bodies.Unavailable):
        await room.share(1)
    for share in (first, second, third):
        share.shrink(0)
    assert (await room.share(1_000)).size == 100  # one that is larger than all takes all


async def test_a_share_is_given_back_with_its_memory() -> None:
    class Memory:
        pass

    room, memory = Bodies(100), Memory()
    (await room.share(100)).give_back_with(memory)
    assert room.free == 0
    del memory
    gc.collect()
    await eventually(lambda: room.free == 100)
