"""What the benchmark reports can be relied on: order, medians, the load's own honesty."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import bench
import pytest
from aiohttp import web
from bench.pairs import Budget, compare

BUDGET = Budget("this", "that", "things", at_least=0.5)
ROOT = Path(bench.__file__).parents[1]


async def test_pairs_take_turns_and_give_the_median_ratio() -> None:
    calls: list[str] = []
    figures = iter([1, 1, 10, 20, 30, 40, 50, 50])  # the first two warm up

    async def ours() -> float:
        calls.append("ours")
        return next(figures)

    async def peer() -> float:
        calls.append("peer")
        return next(figures)

    found = await compare(BUDGET, ours, peer, pairs=3)

    assert calls == ["ours", "peer", "ours", "peer", "peer", "ours", "ours", "peer"]
    assert found.ratios == (10 / 20, 40 / 30, 50 / 50)
    assert (found.ratio, found.peer) == (1.0, 30)
    assert found.kept
    assert "1.00 × that   (budget ≥ 0.50: kept)" in str(found)
    assert "3 pairs, 0.50 to 1.33; the peer: 30 things/s" in str(found)


async def test_a_missed_budget_says_so() -> None:
    async def slow() -> float:
        return 1

    async def fast() -> float:
        return 4

    found = await compare(BUDGET, slow, fast, pairs=3)

    assert not found.kept
    assert "MISSED" in str(found)


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, list[str]]]:
    """A server that notes what it gets; ``/broken`` fails at the third request."""
    seen: list[str] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((await request.read()).decode())
        status = 500 if request.path == "/broken" and len(seen) > 2 else 200
        return web.Response(status=status, body=b"x" * 100_000)

    app = web.Application()
    app.router.add_post("/{any}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", seen
    await runner.cleanup()


async def test_the_loader_counts_whole_answers(
    server: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, seen = server

    code, out, _ = await _load(f"{url}/fine", tmp_path)

    assert code == 0
    assert set(seen) == {"first", "second"}
    assert float(out) == pytest.approx(len(seen) / 0.5, rel=0.5)


async def test_the_loader_does_not_count_errors(
    server: tuple[str, list[str]], tmp_path: Path
) -> None:
    url, _ = server

    code, _, err = await _load(f"{url}/broken", tmp_path)

    assert code != 0
    assert "500" in err


async def _load(url: str, folder: Path) -> tuple[int | None, str, str]:
    bodies = [folder / "1", folder / "2"]
    for path, text in zip(bodies, ("first", "second"), strict=True):
        path.write_text(text)
    order = {
        "url": url,
        "connections": 2,
        "seconds": 0.5,
        "headers": {},
        "bodies": list(map(str, bodies)),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.loader", json.dumps(order)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()
