"""How the places for sends are shared out, so that what hangs never has all of them."""

from __future__ import annotations

from quotabell.domain.outcome import Fault, Outcome
from quotabell.service.origins import (
    CLAIMED,
    DOUBTFUL,
    IN_ALL,
    PER_ORIGIN,
    PROBES,
    RESERVED,
    Origins,
)

SENT = Outcome("sent", 201, "sent")
LOST = Outcome("retry", reason=Fault.TIMEOUT.value)
BATCH = 100


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def room(origins: Origins, origin: str) -> int:
    """How many of an origin may be claimed now."""
    taken, strangers = origins.taken()
    return CLAIMED - taken[origin] if origin in taken else strangers


def claim(origins: Origins, origin: str) -> int:
    """Claim what may be; how many it were."""
    count = 0
    while more := min(BATCH, origins.room, room(origins, origin)):
        origins.begin([origin] * more)
        count += more
    return count


def answering(origins: Origins, *names: str) -> None:
    for name in names:
        origins.pause(name, SENT, 0.0)


def test_an_origin_that_answers_has_many_places() -> None:
    origins = Origins()
    assert claim(origins, "new") == PER_ORIGIN
    answering(origins, "new")
    assert claim(origins, "new") == CLAIMED - PER_ORIGIN


def test_a_crowd_that_never_answers_leaves_places_for_those_that_do() -> None:
    origins = Origins()
    answering(origins, "sound")
    taken = sum(claim(origins, f"sick-{n}") for n in range(500))

    assert taken <= DOUBTFUL + BATCH
    assert claim(origins, "sound") == CLAIMED


def test_many_that_answered_and_then_hang_leave_some_for_the_next() -> None:
    origins = Origins()
    names = [f"giant-{n}" for n in range(20)]
    answering(origins, *names, "sound")
    taken = sum(claim(origins, name) for name in names[:6])

    assert taken <= IN_ALL - RESERVED + BATCH
    assert claim(origins, "sound") >= PROBES


def test_an_origin_that_fell_silent_is_doubted() -> None:
    clock = Clock()
    origins = Origins(clock)
    answering(origins, "sick")
    pauses = [origins.pause("sick", LOST, 1.0) for _ in range(20)]

    assert pauses == [0.0] * 19 + [30.0]
    assert claim(origins, "sick") == 0
    clock.now += 30
    assert claim(origins, "sick") == PER_ORIGIN


def test_silence_is_forgotten_with_time_and_with_an_answer() -> None:
    clock = Clock()
    origins = Origins(clock)
    for _ in range(19):
        origins.pause("sick", LOST, 1.0)
    answering(origins, "sick")
    assert origins.pause("sick", LOST, 1.0) == 0.0
    for _ in range(18):
        origins.pause("sick", LOST, 1.0)
    clock.now += 601
    assert origins.pause("sick", LOST, 1.0) == 0.0


def test_a_crowd_of_silent_origins_is_not_remembered_for_ever() -> None:
    origins = Origins()
    for n in range(20_000):
        origins.pause(f"https://{n}.example", LOST, 1.0)
        answering(origins, f"https://{n}.answering.example")

    assert len(origins._silent) <= 10_000
    assert len(origins.taken()[0]) <= 256


def test_more_is_asked_for_when_places_come_free() -> None:
    origins = Origins()
    claim(origins, "new")
    assert not origins.end("new")
    answering(origins, "new")
    assert origins.end("new")  # it may have more now

    claim(origins, "new")
    asked = [origins.end("new") for _ in range(CLAIMED)]
    assert asked.count(True) == 1
    assert asked.index(True) <= CLAIMED // 2


def test_a_full_crowd_asks_again_when_some_of_it_is_done() -> None:
    origins = Origins()
    for n in range(20):
        claim(origins, f"sick-{n}")
    asked = [origins.end("sick-0") for _ in range(PER_ORIGIN)]
    assert any(asked)
