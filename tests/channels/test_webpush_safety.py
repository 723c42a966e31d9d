from __future__ import annotations

import asyncio
import itertools
import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from quotabell.channels.vapid import Keyring
from quotabell.channels.webpush import PushTarget, WebPushChannel, request_url
from quotabell.domain.endpoints import Endpoint, EndpointRules
from tests.channels.common import NEW, NOTE, OLD, target_of
from tests.domain.test_endpoints import RULES, hostile
from tests.domain.test_push_keys import bad_keys, key_pair
from tests.support.network import Canary, FakeResolver
from tests.support.pushservice import Answer, PushService

# Keys


async def test_a_hundred_sends_take_one_signature_for_an_origin(
    push: PushService, ring: Keyring
) -> None:
    async with PushService() as other:
        rules = EndpointRules((), (push.origin, other.origin))
        browsers = [(push, other)[n % 2].subscribe(NEW.public) for n in range(100)]
        async with WebPushChannel(rules, ring) as channel:
            outcomes = await asyncio.gather(*(channel.send(NOTE, target_of(b)) for b in browsers))

        assert {outcome.kind for outcome in outcomes} == {"sent"}
        assert push.problems == other.problems == []
        for service in (push, other):
            assert {arrival.claims["aud"] for arrival in service.arrivals} == {service.origin}
            assert len(service.arrivals) == 50
        assert ring.signatures == 2


async def test_old_and_new_keys_serve_their_own_subscriptions(
    push: PushService, channel: WebPushChannel, ring: Keyring
) -> None:
    for key in (OLD, NEW, OLD, NEW):
        outcome = await channel.send(NOTE, target_of(push.subscribe(key.public), key))
        assert outcome.kind == "sent"
    unknown = replace(target_of(push.subscribe()), key_id="0123456789abcdef")
    newest = replace(target_of(push.subscribe(NEW.public)), key_id="")

    assert (await channel.send(NOTE, unknown)).reason == "key_missing"
    assert (await channel.send(NOTE, newest)).kind == "sent"
    assert push.problems == []
    assert ring.signatures == 2


@pytest.mark.parametrize(("p256dh", "auth"), bad_keys(), ids=itertools.count())
async def test_a_poisoned_row_costs_one_failed_delivery(
    push: PushService, channel: WebPushChannel, p256dh: Any, auth: Any
) -> None:
    outcome = await channel.send(NOTE, PushTarget(push.subscribe().endpoint, p256dh, auth))

    assert (outcome.kind, outcome.code) == ("failed", "bad_keys")
    assert push.connections == 0


# Endpoints


async def test_no_hostile_endpoint_is_connected_to(ring: Keyring) -> None:
    async with Canary("0.0.0.0") as canary:
        resolver = FakeResolver([("127.0.0.1", canary.port)])
        async with WebPushChannel(RULES, ring, resolver=resolver) as channel:
            targets = [PushTarget(endpoint, *key_pair()) for endpoint in hostile()]
            outcomes = [await channel.send(NOTE, target) for target in targets]
            origins = {channel.origin(target) for target in targets}

    assert {(outcome.kind, outcome.code) for outcome in outcomes} == {
        ("failed", "endpoint_refused")
    }
    assert origins == {""}
    assert resolver.asked == []
    assert canary.connections == 0
    assert ring.signatures == 0


async def test_an_allowed_name_that_leads_inside_is_not_connected_to(ring: Keyring) -> None:
    async with Canary("0.0.0.0") as canary:
        # The trusted origin has the very address and port that the name is led to.
        rules = EndpointRules((), (f"http://127.0.0.1:{canary.port}",))
        resolver = FakeResolver([("127.0.0.1", canary.port)])
        async with WebPushChannel(rules, ring, resolver=resolver) as channel:
            inside = PushTarget(f"http://127.0.0.1:{canary.port}/x", *key_pair())
            assert (await channel.send(NOTE, inside)).status == 204
            name = PushTarget("https://fcm.googleapis.com/wp/x", *key_pair())
            outcome = await channel.send(NOTE, name)
            assert channel.origin(name) == "https://fcm.googleapis.com"

    assert (outcome.kind, outcome.reason) == ("retry", "address_refused")
    assert resolver.asked == ["fcm.googleapis.com"]
    assert canary.connections == 1


def test_an_endpoint_that_the_client_reads_otherwise_has_no_url() -> None:
    good = Endpoint("https", "fcm.googleapis.com", 443, "/wp/x?a=%2b")
    url = request_url(good)

    assert url is not None
    assert str(url) == good.url
    for host in ("evil@fcm.googleapis.com", "a/b", "a#b", "a?b"):
        assert request_url(replace(good, host=host)) is None
    for target in ("/x#y", "/x?", "x"):
        assert request_url(replace(good, target=target)) is None


# Secrets


async def test_no_secret_is_in_an_outcome_a_log_or_a_repr(
    push: PushService,
    channel: WebPushChannel,
    ring: Keyring,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    browser = push.subscribe(NEW.public)
    target = target_of(browser)
    signed = ring.newest.header(push.origin)
    secrets = [
        browser.token,
        browser.endpoint,
        target.p256dh,
        target.auth,
        signed.removeprefix("vapid t=").partition(",")[0],
        signed.removeprefix("vapid t=").partition(",")[0].rpartition(".")[2],
    ]
    echo = " ".join(secrets)
    told = {
        "X-WNS-ERROR-DESCRIPTION": echo,
        "X-WNS-STATUS": target.auth,
        "Retry-After": echo,
        "Location": browser.endpoint,
    }
    reasons = json.dumps({"reason": target.auth, "errno": echo, "message": echo}).encode()
    outcomes = []
    for status in (201, 307, 400, 401, 403, 404, 406, 410, 413, 429, 500, 503):
        for body in (echo.encode(), reasons):
            push.always = Answer(status, told, body)
            outcomes.append(await channel.send(NOTE, target))
    push.always = Answer()
    for fault in ("reset", "garbage", "half", "endless"):
        push.script(Answer(fault=fault))
        outcomes.append(await channel.send(NOTE, target))
    outcomes.append(await channel.send(NOTE, replace(target, auth=target.auth + "x")))
    outcomes.append(await channel.send(NOTE, replace(target, endpoint=browser.endpoint + "#")))

    shown = [*map(repr, outcomes), repr(target), repr(channel), repr(ring), repr(ring.newest)]
    assert len({outcome.code for outcome in outcomes}) >= 10
    assert [s for s in secrets if any(s in text for text in [*shown, caplog.text])] == []
