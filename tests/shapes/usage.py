"""Usage of tokens as programs and people make it, minute by minute, by shape and seed.

The clock begins on a Monday at midnight. A shape and a seed always give the same usage.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

HOUR = 60
DAY = 24 * HOUR
WEEK = 7 * DAY
LENGTH = 30 * DAY
DRIFTS = 10  # minutes after which demand is another

Pace = list[float]
"""Tokens that are to be expected in each minute."""


def steady(chance: Random) -> Pace:
    """A service that is asked day and night."""
    return [chance.uniform(50, 5_000)] * LENGTH


def burst(chance: Random) -> Pace:
    """Little or nothing, and now and then a batch job of minutes to hours."""
    least = chance.choice((0.0, 20.0))
    pace = [least] * LENGTH
    at = 0.0
    a_day = chance.uniform(0.5, 4)
    while (at := at + chance.expovariate(a_day / DAY)) < LENGTH:
        lasts = chance.uniform(10, 4 * HOUR)
        _raise(pace, int(at), int(lasts), chance.uniform(500, 5_000))
    return pace


def ramp(chance: Random) -> Pace:
    """A service that is taken up: more every day, evenly or by a factor."""
    first, last = chance.uniform(50, 500), chance.uniform(1_000, 5_000)
    if chance.random() < 0.5:
        return [first + (last - first) * m / LENGTH for m in range(LENGTH)]
    return [first * (last / first) ** (m / LENGTH) for m in range(LENGTH)]


def night_and_day(chance: Random) -> Pace:
    """People of one time zone: most in the afternoon, little at night."""
    top, low = chance.uniform(500, 5_000), chance.uniform(0.0, 0.2)
    return [top * (low + (1 - low) * light) for light in _daylight()] * (LENGTH // DAY)


def weekend(chance: Random) -> Pace:
    """People at work: night and day, and little from Saturday to Sunday."""
    rest = chance.uniform(0.0, 0.2)
    return [
        pace * (rest if m % WEEK >= 5 * DAY else 1.0)
        for m, pace in enumerate(night_and_day(chance))
    ]


def retry_storm(chance: Random) -> Pace:
    """People, and a few times a program that tries again and again, faster and faster."""
    pace = night_and_day(chance)
    top = max(pace)
    for _ in range(chance.randint(1, 4)):
        at, lasts = chance.randrange(DAY, LENGTH - DAY), chance.randint(20, 5 * HOUR)
        height = top * chance.uniform(2, 20)
        doubles = chance.uniform(1, 15)  # minutes
        for m in range(at, at + lasts):
            pace[m] += min(height, top * 0.1 * 2 ** ((m - at) / doubles))
    return pace


SHAPES: dict[str, Callable[[Random], Pace]] = {
    "steady": steady,
    "burst": burst,
    "ramp": ramp,
    "night and day": night_and_day,
    "weekend": weekend,
    "retry storm": retry_storm,
}


def usage(shape: str, seed: int) -> list[int]:
    """Tokens used in each minute of 30 days.

    Round the pace of the shape go two kinds of chance: demand drifts by the hour, and a minute
    has few calls or many.
    """
    chance = Random(f"{shape} {seed}")
    pace = SHAPES[shape](chance)
    spread = 0.5 / math.sqrt(chance.choice((2, 8, 32)))  # calls in a minute, on the average
    # The square of a normal value is never negative and has a long tail, as sums of calls do.
    minutes = chance.choices([(1 + chance.gauss(0.0, spread)) ** 2 for _ in range(2_000)], k=LENGTH)
    drift, strength = 0.0, chance.uniform(0.02, 0.1)
    tokens: list[int] = []
    for start in range(0, LENGTH, DRIFTS):
        drift = 0.9 * drift + chance.gauss(0.0, strength)
        factor = math.exp(drift)
        part = slice(start, start + DRIFTS)
        tokens += [
            int(expected * factor * minute)
            for expected, minute in zip(pace[part], minutes[part], strict=True)
        ]
    return tokens


def _daylight() -> Pace:
    """A day's minutes: 0 at night to 1 at about 14:00."""
    return [
        math.sin(math.pi * (m / HOUR - 6) / 16) if 6 * HOUR <= m <= 22 * HOUR else 0.0
        for m in range(DAY)
    ]


def _raise(pace: Pace, start: int, lasts: int, by: float) -> None:
    for m in range(start, min(start + lasts, LENGTH)):
        pace[m] += by
