from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from quotabell.channels.vapid import Keyring
from quotabell.channels.webpush import WebPushChannel
from quotabell.domain.endpoints import EndpointRules
from tests.channels.common import keyring
from tests.support.pushservice import PushService


@pytest.fixture
async def push() -> AsyncIterator[PushService]:
    async with PushService() as push:
        yield push


@pytest.fixture
def ring() -> Keyring:
    return keyring()


@pytest.fixture
async def channel(push: PushService, ring: Keyring) -> AsyncIterator[WebPushChannel]:
    async with WebPushChannel(EndpointRules((), (push.origin,)), ring) as channel:
        yield channel
