"""A refused key is not tried with every browser; one refused browser harms no other."""

from __future__ import annotations

import asyncio

from quotabell.channels.refusals import _PROBE, BROWSERS, PAUSE, Refusals
from quotabell.channels.webpush import WebPushChannel
from quotabell.domain.outcome import Outcome
from tests.channels.common import NOTE, OLD, target_of
from tests.support.pushservice import Answer, PushService

REFUSED = Outcome("retry", 403, "key_refused: BadJwtToken")
AWAY = Outcome("retry", None, "timeout")
SENT = Outcome("sent", 201, "sent")
AT = ("https://push.example", "key")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_service_that_refuses_the_key_is_left_alone_with_that_key(
    push: PushService, channel: WebPushChannel
) -> None:
    push.always = Answer(403)
    for _ in range(BROWSERS):
        await channel.send(NOTE, target_of(push.subscribe()))
    asked = len(push.arrivals)

    outcome = await channel.send(NOTE, target_of(push.subscribe()))

    assert len(push.arrivals) == asked == BROWSERS + 1  # one of them with a new token
    assert (outcome.kind, outcome.code, outcome.counts) == ("retry", "key_refused", False)
    assert outcome.retry_after is not None
    assert 0 < outcome.retry_after <= PAUSE
    push.always = Answer(201)
    assert (await channel.send(NOTE, target_of(push.subscribe(), OLD))).kind == "sent"


async def test_a_browser_that_is_refused_again_and_again_harms_no_other(
    push: PushService, channel: WebPushChannel
) -> None:
    bad, good = push.subscribe(), push.subscribe()
    push.script(*[Answer(401)] * 100, to=bad)
    await asyncio.gather(*(channel.send(NOTE, target_of(bad)) for _ in range(4 * BROWSERS)))

    assert (await channel.send(NOTE, target_of(good))).kind == "sent"


def test_a_key_that_was_taken_lately_is_not_at_fault() -> None:
    clock = Clock()
    refusals = Refusals(clock)
    refusals.heard(*AT, SENT, 0)
    for browser in range(100):
        refusals.heard(*AT, REFUSED, browser)
    assert refusals.waits(*AT) == 0

    clock.now += 3600
    for browser in range(BROWSERS):
        assert refusals.waits(*AT) == 0
        refusals.heard(*AT, REFUSED, browser)
    assert refusals.waits(*AT) == PAUSE


def test_after_a_pause_one_is_tried_and_says_how_it_goes_on() -> None:
    clock = Clock()
    refusals = Refusals(clock)
    for browser in range(BROWSERS):
        refusals.heard(*AT, REFUSED, browser)
    for outcome, wait in ((REFUSED, PAUSE), (AWAY, _PROBE), (SENT, 0.0)):
        clock.now += PAUSE
        assert refusals.waits(*AT) == 0
        assert refusals.waits(*AT) == _PROBE
        refusals.heard(*AT, outcome, 1)
        assert refusals.waits(*AT) == wait
