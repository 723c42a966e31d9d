"""The usage of a small team that does not exist: five people, three providers, a day at work.

All of it follows from a seed and from how much time has passed, so that a demonstration can be
repeated. A day, the story, is compressed into minutes. In each, one person's agent uses up most of
what a provider allows, and the provider's window ends before the story does.
"""

from __future__ import annotations

import math
import random
from typing import Any, NamedTuple

MARK = "demo-"
"""How the name of every user and provider begins that is made up."""

MOST = 40  # events of a tick
RESET = 0.62  # of the story: when the agent's window ends
_HOT = 0.36  # of the story: when the agent has used what it will
_HIGHEST = 0.94  # of its limit


class Person(NamedTuple):
    """Who uses which model, with which limit per window, and how much of it on a usual day."""

    name: str
    provider: str
    model: str
    limit: int
    share: float

    @property
    def user(self) -> str:
        return MARK + self.name


class Price(NamedTuple):
    """USD for a million tokens."""

    input: float
    output: float


TEAM = (
    Person("ada", "anthropic", "claude-sonnet-4-5", 2_000_000, 0.52),
    Person("grace", "openai", "gpt-5", 1_500_000, 0.44),
    Person("linus", "openai", "gpt-5-mini", 1_000_000, 0.35),
    Person("margaret", "google", "gemini-2.5-pro", 1_200_000, 0.61),
    Person("alan", "anthropic", "claude-haiku-4-5", 800_000, 0.27),
)
PRICES = {
    "claude-sonnet-4-5": Price(3, 15),
    "claude-haiku-4-5": Price(1, 5),
    "gpt-5": Price(1.25, 10),
    "gpt-5-mini": Price(0.25, 2),
    "gemini-2.5-pro": Price(1.25, 10),
}
USERS = tuple(person.user for person in TEAM)


class Tick(NamedTuple):
    """What happened since the tick before: calls, and what providers say of their limits."""

    events: list[dict[str, Any]]
    snapshots: list[dict[str, Any]]


class Team:
    """`tick` is to be called with times that grow; ``story``: seconds of a day."""

    def __init__(self, seed: int, story: float, run: str) -> None:
        self._random = random.Random(seed)
        self._story = story
        self._run = run
        self._calls = 0
        self._used = dict.fromkeys(TEAM, 0)

    def tick(self, at: float) -> Tick:
        """What happens until ``at`` seconds have passed since the beginning."""
        events: list[dict[str, Any]] = []
        snapshots = []
        for person in TEAM:
            used = int(self._share(person, at) * person.limit)
            before = self._used[person]
            self._used[person] = used
            # Below what it was: the provider's window has ended, and another has begun.
            events += self._calls_of(person, used - before if used >= before else used)
            snapshots.append(
                {
                    "provider": MARK + person.provider,
                    "model": person.model,
                    "userId": person.user,
                    "tokensUsed": used,
                    "tokenLimit": person.limit,
                }
            )
        return Tick(events[:MOST], snapshots)

    def _share(self, person: Person, at: float) -> float:
        """How much of the limit of the present window is used."""
        day, time = divmod(at / self._story, 1.0)
        if person is not TEAM[int(day) % len(TEAM)]:
            return person.share * _worked(time)
        if time < RESET:
            return _HIGHEST * min(1.0, 0.25 * _worked(time) + 0.75 * time / _HOT)
        return 0.1 * person.share * (time - RESET) / (1 - RESET)

    def _calls_of(self, person: Person, tokens: int) -> list[dict[str, Any]]:
        """So many tokens as calls; agents make many of them."""
        if tokens <= 0:
            return []
        count = min(8, 1 + tokens // 12_000)
        weights = [self._random.uniform(0.4, 1.6) for _ in range(count)]
        whole = sum(weights)
        return [self._call(person, int(tokens * weight / whole)) for weight in weights]

    def _call(self, person: Person, tokens: int) -> dict[str, Any]:
        self._calls += 1
        cached = self._random.uniform(0.2, 0.5)
        answered = self._random.uniform(0.05, 0.2)
        output = int(tokens * answered)
        reasoning = output // 3
        cache = int((tokens - output) * cached)
        price = PRICES[person.model]
        fresh = tokens - output - cache
        cost = (fresh + cache / 10) * price.input + output * price.output
        return {
            "id": f"{self._run}-{self._calls}",
            "provider": MARK + person.provider,
            "model": person.model,
            "userId": person.user,
            "source": "demo",
            "inputTokens": fresh,
            "cacheReadTokens": cache,
            "outputTokens": output - reasoning,
            "reasoningTokens": reasoning,
            "costUsd": round(cost / 1_000_000, 6),
        }


def _worked(time: float) -> float:
    """How much of a day's work is done: little in the morning, at noon and in the evening."""
    return time - math.sin(4 * math.pi * time) / (5 * math.pi)
