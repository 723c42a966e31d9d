"""A new Web Push key beside the old one, on replicas that are restarted one after the other."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from quotabell.channels.vapid import Keyring, VapidKey, VapidSigner
from quotabell.channels.webpush import WebPushChannel
from quotabell.domain.endpoints import EndpointRules
from quotabell.service.push import WebPushSender
from tests.channels.common import NEW, OLD
from tests.service.station import Station, station
from tests.support.outbox import Outbox, outbox
from tests.support.pushservice import PushService
from tests.support.waiting import eventually

MESSAGES = 20


@contextlib.asynccontextmanager
async def replica(
    dsn: str, pushes: Sequence[PushService], *keys: VapidKey
) -> AsyncIterator[tuple[Keyring, Station]]:
    ring = Keyring(VapidSigner(key, "mailto:ops@example.com") for key in keys)
    rules = EndpointRules((), tuple(push.origin for push in pushes))
    async with WebPushChannel(rules, ring) as channel:
        senders = {"webpush": WebPushSender(channel)}
        async with station(dsn, senders, worker=keys[0].id) as at:
            yield ring, at


@pytest.fixture
async def box(dsn: str) -> AsyncIterator[Outbox]:
    async with outbox(dsn) as box:
        yield box


async def test_each_browser_is_told_with_its_own_key_and_no_delivery_fails(
    dsn: str, box: Outbox
) -> None:
    async with PushService() as one, PushService() as two:
        pushes = (one, two)
        browsers = []
        for push in pushes:
            for key in (OLD, NEW):
                browsers.append(push.subscribe(key.public))
                await box.subscribe("alice", browsers[-1].subscription, key=key.id)
        async with (
            replica(dsn, pushes, OLD) as (before, _),  # not restarted yet
            replica(dsn, pushes, NEW, OLD) as (after, at),
        ):
            for _ in range(MESSAGES):
                await box.announce("alice")
            at.deliverer.wake()
            await eventually(box.closed, timeout=30)

        assert one.problems == two.problems == []  # each token is of the browser's own key
        assert [len(push.of(b)) for push in pushes for b in browsers if push.of(b)] == [
            MESSAGES
        ] * 4
        tokens = {a.headers["authorization"] for push in pushes for a in push.arrivals}
        assert len(tokens) == len(pushes) * 2  # also of two replicas: one for each origin and key
        assert before.signatures <= len(pushes)
        assert after.signatures <= len(pushes) * 2
    assert await box.statuses() == {"sent": 4 * MESSAGES}
    assert await box.books(enqueued=4 * MESSAGES) == []
