from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate

import http_ece
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from quotabell.channels import webpush
from quotabell.channels.aes128gcm import Receiver
from quotabell.channels.contract import Notification
from quotabell.channels.vapid import Keyring
from quotabell.channels.webpush import (
    BUCKETS,
    SHORT_BUCKET,
    PushTarget,
    WebPushChannel,
    plaintext,
    short_plaintext,
)
from quotabell.domain.endpoints import EndpointRules
from tests.channels.common import NEW, NOTE, target_of
from tests.domain.test_push_keys import key_pair
from tests.support.network import Canary
from tests.support.push_browser import Browser, unb64u
from tests.support.pushservice import Answer, PushService

# What arrives


async def test_a_message_arrives_as_the_page_reads_it(
    push: PushService, channel: WebPushChannel
) -> None:
    browser = push.subscribe(NEW.public)
    outcome = await channel.send(NOTE, target_of(browser))

    (arrival,) = push.arrivals
    assert (outcome.kind, outcome.status, outcome.reason) == ("sent", 201, "sent")
    assert push.problems == []
    assert arrival.message == {
        "title": "openai / gpt-5 is at 90 %",
        "body": "1.8 M of 2 M tokens, runs out in about 42 min, resets in 3 h",
        "tag": "q-1",
        "state": "firing",
        "kind": "threshold",
        "threshold": 90.0,
        "percentage": 90.25,
        "quota": "openai-daily",
        "provider": "openai",
        "model": "gpt-5",
        "url": "/#q-1",
    }
    headers = {name: arrival.headers.get(name) for name in ("ttl", "urgency", "topic")}
    assert headers == {"ttl": "3600", "urgency": "high", "topic": "abcDEF123-_"}
    assert set(arrival.headers) == {
        "host", "user-agent", "accept", "authorization", "content-encoding", "content-type",
        "content-length", "ttl", "urgency", "topic",
    }  # fmt: skip


@pytest.mark.parametrize(("ttl", "sent"), [(0, 60), (-5, 60), (59.9, 60), (90.7, 90), (1e9, 86400)])
async def test_the_time_to_live_is_never_zero_and_at_most_a_day(
    push: PushService, channel: WebPushChannel, ttl: float, sent: int
) -> None:
    await channel.send(replace(NOTE, ttl=ttl, topic=""), target_of(push.subscribe()))

    assert push.arrivals[0].headers["ttl"] == str(sent)
    assert "topic" not in push.arrivals[0].headers


async def test_path_and_query_arrive_byte_for_byte(
    push: PushService, channel: WebPushChannel
) -> None:
    browser = push.subscribe(tail="/a%2fb/../c:d,e;f=1!?token=BQ%2bYA%3d%3d&x=%41~(*)'$@")
    outcome = await channel.send(NOTE, target_of(browser))

    assert outcome.kind == "sent"
    assert push.arrivals[0].token == browser.token


async def test_the_example_of_rfc_8291_is_decrypted_by_the_receiver_of_these_tests() -> None:
    numbers = int.from_bytes(unb64u("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"), "big")
    body = unb64u(
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS"
        "6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qu"
        "lcy4a-fN"
    )
    browser = Browser("https://push.example.net/push/JzLQ3raZJfFBR0aqvOMsLrt54w4rJUsV", "x", None)
    browser.private = ec.derive_private_key(numbers, ec.SECP256R1())
    browser.auth = unb64u("BTBZMqHH6r4Tts7J_aSIgg")

    assert browser.read(body) == b"When I grow up, I want to be a watermelon"
    with pytest.raises(ValueError, match="not decrypted"):
        browser.read(body[:-1] + b"x")
    with pytest.raises(ValueError, match="more than one record"):
        browser.read(body + bytes(4096))


def test_the_receiver_does_not_decrypt_for_another() -> None:
    p256dh, auth = key_pair()
    other = ec.generate_private_key(ec.SECP256R1())
    body = Receiver.of(p256dh, auth).encrypt(plaintext(NOTE))

    with pytest.raises(http_ece.ECEException):
        http_ece.decrypt(body, private_key=other, auth_secret=unb64u(auth), version="aes128gcm")


# Sizes


def sized(length: int) -> Notification:
    """A notification whose payload takes ``length`` bytes before it is padded."""
    return replace(NOTE, body="x" * (length - len(plaintext(replace(NOTE, body="")).rstrip())))


@pytest.mark.parametrize(
    ("length", "bucket"), [(400, 2641), (2641, 2641), (2642, 3993), (3993, 3993), (3994, 3993)]
)
async def test_a_payload_is_padded_to_one_of_two_sizes_and_a_longer_one_is_cut(
    push: PushService, channel: WebPushChannel, length: int, bucket: int
) -> None:
    note = sized(length)
    await channel.send(note, target_of(push.subscribe()))

    (arrival,) = push.arrivals
    assert push.problems == []
    assert arrival.plaintext is not None
    assert (len(arrival.plaintext), arrival.size) == (bucket, bucket + 103)
    assert (arrival.message["body"] == note.body) is (length <= 3993)
    assert arrival.message["body"].endswith("…") is (length > 3993)


_TEXT = st.text(st.characters(exclude_categories=[]), max_size=40)


@settings(max_examples=60, deadline=None)
@given(_TEXT, _TEXT, _TEXT, st.integers(1, 400), st.floats() | st.none())
def test_any_text_makes_json_of_a_size_that_fits(
    title: str, body: str, other: str, times: int, number: float | None
) -> None:
    note = replace(
        NOTE,
        title=title * times,
        body=body * times,
        tag=other * times,
        quota=other * times,
        provider=other * times,
        model=title * times,
        url=other * times,
        percentage=number,
    )
    long, short = plaintext(note), short_plaintext(note)

    assert len(long) in BUCKETS
    assert set(json.loads(long)) == set(NOTE.payload())
    assert len(short) == SHORT_BUCKET
    assert set(json.loads(short)) == {"title", "tag"}
    assert len(Receiver.of(*key_pair()).encrypt(long)) <= 4096


def test_only_the_body_is_cut_if_that_is_enough() -> None:
    note = replace(NOTE, body="größer \U0001f514" * 2000)
    fields = json.loads(plaintext(note))

    assert {**fields, "body": ""} == {**NOTE.payload(), "body": ""}
    assert note.body.startswith(fields["body"].removesuffix("…"))
    assert len(plaintext(note).rstrip()) > 3993 - 8


# Answers


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, "sent"), (201, "sent"), (202, "sent"), (301, "failed"), (307, "failed"),
     (400, "failed"), (404, "gone"), (406, "failed"), (410, "gone"), (429, "retry"),
     (500, "retry"), (502, "retry"), (503, "retry")],
)  # fmt: skip
async def test_a_status_is_taken_as_the_table_says_with_one_request(
    push: PushService, channel: WebPushChannel, status: int, kind: str
) -> None:
    push.always = Answer(status)
    outcome = await channel.send(NOTE, target_of(push.subscribe()))

    assert (outcome.kind, outcome.status) == (kind, status)
    assert len(push.arrivals) == 1


async def test_a_dead_subscription_is_gone(push: PushService, channel: WebPushChannel) -> None:
    browser = push.subscribe()
    browser.gone = True
    never = PushTarget(push.origin + "/wpush/v2/never", *key_pair())

    assert (await channel.send(NOTE, target_of(browser))).status == 410
    assert (await channel.send(NOTE, never)).status == 404


async def test_a_domain_that_is_blocked_does_not_end_the_subscription(
    push: PushService, channel: WebPushChannel
) -> None:
    push.script(Answer(410, {"X-WNS-ERROR-DESCRIPTION": "Domain Blocked"}))
    outcome = await channel.send(NOTE, target_of(push.subscribe()))

    assert (outcome.kind, outcome.reason) == ("retry", "sender_blocked")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    push: PushService, channel: WebPushChannel, status: int
) -> None:
    async with Canary("127.0.0.1") as canary:
        push.always = Answer(status, {"Location": f"http://127.0.0.1:{canary.port}/"})
        outcome = await channel.send(NOTE, target_of(push.subscribe()))
        push.always = Answer(status, {"Location": f"{push.origin}/here"})
        await channel.send(NOTE, target_of(push.subscribe()))

    assert (outcome.kind, outcome.reason) == ("failed", "redirect_refused")
    assert canary.connections == 0
    assert push.followed == []


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_signed_again_once(
    push: PushService, channel: WebPushChannel, ring: Keyring, status: int
) -> None:
    browser = push.subscribe(NEW.public)
    push.script(Answer(status))
    healed = await channel.send(NOTE, target_of(browser))
    push.always = Answer(status)
    refused = await channel.send(NOTE, target_of(browser))

    tokens = [arrival.headers["authorization"] for arrival in push.arrivals]
    assert healed.kind == "sent"
    assert (refused.kind, refused.code, refused.resign) == ("retry", "key_refused", False)
    assert tokens[0] != tokens[1] == tokens[2]
    assert len(tokens) == 3
    assert ring.signatures == 2


async def test_many_refusals_at_once_share_one_new_token(
    push: PushService, channel: WebPushChannel, ring: Keyring
) -> None:
    push.always = Answer(401, delay=0.05)
    browsers = [push.subscribe() for _ in range(20)]
    outcomes = await asyncio.gather(*(channel.send(NOTE, target_of(b)) for b in browsers))

    assert {outcome.code for outcome in outcomes} == {"key_refused"}
    assert ring.signatures == 2
    assert len(push.arrivals) == 40


async def test_too_large_is_tried_once_in_the_short_form(
    push: PushService, channel: WebPushChannel
) -> None:
    browser = push.subscribe()
    push.script(Answer(413), to=browser)
    shortened = await channel.send(sized(3500), target_of(browser))
    push.always = Answer(413)
    refused = await channel.send(NOTE, target_of(push.subscribe()))

    assert (shortened.kind, shortened.reason) == ("sent", "sent: short form")
    assert push.arrivals[1].message == {"title": NOTE.title, "tag": NOTE.tag}
    assert push.arrivals[1].size <= 2744
    assert (refused.kind, refused.code, refused.short_form) == ("failed", "too_large", False)
    assert len(push.arrivals) == 4


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "form", [lambda at: "2", lambda at: formatdate(at, usegmt=True)], ids=["seconds", "date"]
)
async def test_retry_after_is_never_early(
    push: PushService, channel: WebPushChannel, status: int, form: Callable[[float], str]
) -> None:
    asked = time.time() + 2
    push.script(Answer(status, {"Retry-After": form(asked)}))
    outcome = await channel.send(NOTE, target_of(push.subscribe()))

    assert outcome.origin_pause
    assert outcome.retry_after is not None
    # A date has whole seconds, so it asks for up to a second less than was meant.
    assert int(asked) - time.time() <= outcome.retry_after <= 2


@pytest.mark.parametrize(
    ("fault", "reason"), [("reset", "reset"), ("garbage", "bad_answer"), ("hang", "timeout")]
)
async def test_without_an_answer_it_is_tried_again(
    push: PushService, channel: WebPushChannel, fault: str, reason: str
) -> None:
    push.script(Answer(fault=fault))
    browser = push.subscribe()
    began = time.monotonic()
    outcome = await channel.send(NOTE, target_of(browser))

    assert (outcome.kind, outcome.status, outcome.reason) == ("retry", None, reason)
    assert time.monotonic() - began < 7
    assert (await channel.send(NOTE, target_of(browser))).kind == "sent"


@pytest.mark.parametrize("fault", ["half", "endless", "big", "drip"])
async def test_a_message_that_was_accepted_is_sent_whatever_the_body_does(
    push: PushService, channel: WebPushChannel, fault: str
) -> None:
    push.script(Answer(201, fault=fault))
    outcome = await channel.send(NOTE, target_of(push.subscribe()))

    assert (outcome.kind, outcome.status) == ("sent", 201)
    assert len(push.arrivals) == 1
    assert push.sent < 16 << 20


async def test_the_requests_of_one_try_share_one_bound_in_time(
    push: PushService, channel: WebPushChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webpush, "TOTAL", 1.0)
    push.script(Answer(401, delay=0.4), Answer(413, delay=0.4), Answer(201, delay=0.4))
    began = time.monotonic()
    outcome = await channel.send(NOTE, target_of(push.subscribe()))

    assert outcome.reason == "timeout"
    assert len(push.arrivals) == 3
    assert 0.9 < time.monotonic() - began < 3


async def test_a_service_that_is_away_is_tried_again(push: PushService, ring: Keyring) -> None:
    browser = push.subscribe()
    async with WebPushChannel(EndpointRules((), (push.origin,)), ring) as channel:
        await push.__aexit__()
        outcome = await channel.send(NOTE, target_of(browser))

    assert (outcome.kind, outcome.reason) == ("retry", "connect")
