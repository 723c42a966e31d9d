"""How soon LiteLLM's callback is answered: what it logs meanwhile, it loses."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any
from uuid import uuid4

import aiohttp

from bench.bell import Figure
from bench.ground import BEARER, durable_cluster, ours

BATCHES = 30  # a round
BUDGET = 0.050  # seconds; with a receiver of some ten, 58 of 1,001 calls were lost
QUOTAS = [{"name": "tiny", "per": ["user"], "limit": 10, "window": "day", "thresholds": [50]}]


async def run(rounds: int) -> AsyncIterator[Figure]:
    """From the first byte of a batch to the answer, of batches that ring."""
    with tempfile.TemporaryDirectory() as made, durable_cluster() as cluster:
        async with ours(Path(made), cluster.create_database(), quotas=QUOTAS) as url:
            for items in (1, 100, 512):
                took = []
                async with aiohttp.ClientSession(headers=BEARER) as session:
                    for number in range(BATCHES * rounds):
                        batch = [_call(f"user-{items}-{number}") for _ in range(items)]
                        began = perf_counter()
                        async with session.post(f"{url}/api/ingest/litellm", json=batch) as answer:
                            assert (await answer.json())["accepted"] == items
                        took.append(perf_counter() - began)
                yield _figure(items, took)


def _call(user: str) -> dict[str, Any]:
    return {
        "litellm_call_id": str(uuid4()),
        "status": "success",
        "custom_llm_provider": "openai",
        "model": "gpt-5",
        "endTime": datetime.now(UTC).timestamp(),
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "end_user": user,
        "messages": [{"role": "user", "content": "x" * 1_000}],
    }


def _figure(items: int, took: list[float]) -> Figure:
    cuts = quantiles(took, n=100)
    return Figure(
        f"LiteLLM's callback: a batch of {items} that rings, until its answer after the commit",
        f"p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms of {len(took)}",
        f"p50 ≤ {BUDGET * 1000:.0f} ms",
        cuts[49] <= BUDGET,
    )
