"""Webhooks against a real receiver, verified by the reference implementation of the standard."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from quotabell.channels import own
from quotabell.channels.contract import Notification
from quotabell.channels.webhook import WebhookChannel, WebhookTarget, webhook_id
from quotabell.config.channels import webhook_keys
from tests.support.network import Canary
from tests.support.receiver import Call, Receiver, Reply

SECRETS = [f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2)]
NOTIFICATION = Notification(
    id="n-1/webhook/ops",
    title="openai / gpt-5 is at 90 %",
    body="90 of 100 tokens, „naïve“ \U0001f514",
    tag="s-1:threshold",
    state="firing",
    kind="threshold",
    ttl=60,
    threshold=90.0,
    percentage=float("nan"),
    quota="daily",
    provider="openai",
    model="gpt-5",
    url="/?state=s-1",
    at=datetime(2026, 11, 22, 12, 0, 0, 5000, tzinfo=UTC),
    user="alice",
    state_id="s-1",
    tokens_used=90,
    token_limit=100,
    period_end="2026-11-23T00:00:00+00:00",
    text="90 of 100 tokens.\nNo reset is known.",
)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
async def channel() -> AsyncIterator[WebhookChannel]:
    async with WebhookChannel() as channel:
        yield channel


def target(receiver: Receiver, *secrets: str, path: str = "/hook?a=1") -> WebhookTarget:
    keys = webhook_keys(" ".join(secrets or SECRETS[:1]))
    return WebhookTarget(receiver.origin + path, keys, receiver.origin)


def verified(call: Call, secret: str = SECRETS[0]) -> Any:
    return Webhook(secret).verify(call.body, call.headers)


async def test_a_webhook_is_verified_and_tells_all(
    channel: WebhookChannel, receiver: Receiver
) -> None:
    outcome = await channel.send(NOTIFICATION, target(receiver))

    assert (outcome.kind, outcome.status) == ("sent", 204)
    [call] = receiver.calls
    assert call.path == "/hook?a=1"
    assert call.headers["content-type"] == "application/json"
    assert verified(call) == {
        "type": "alert.firing",
        "timestamp": "2026-11-22T12:00:00.005000Z",
        "data": {
            "title": "openai / gpt-5 is at 90 %",
            "body": "90 of 100 tokens, „naïve“ \U0001f514",
            "tag": "s-1:threshold",
            "state": "firing",
            "kind": "threshold",
            "threshold": 90.0,
            "percentage": None,
            "quota": "daily",
            "provider": "openai",
            "model": "gpt-5",
            "url": "/?state=s-1",
            "stateId": "s-1",
            "subject": None,
            "userId": "alice",
            "tokensUsed": 90,
            "tokenLimit": 100,
            "periodEnd": "2026-11-23T00:00:00+00:00",
            "reason": None,
            "text": "90 of 100 tokens.\nNo reset is known.",
        },
    }


async def test_the_reference_refuses_another_secret_and_a_changed_body(
    channel: WebhookChannel, receiver: Receiver
) -> None:
    await channel.send(NOTIFICATION, target(receiver))

    [call] = receiver.calls
    with pytest.raises(WebhookVerificationError):
        verified(call, SECRETS[1])
    with pytest.raises(WebhookVerificationError):
        verified(Call(call.path, call.headers, call.body.replace(b"90", b"91")))


async def test_two_secrets_sign_both_so_that_receivers_can_change_over(
    channel: WebhookChannel, receiver: Receiver
) -> None:
    await channel.send(NOTIFICATION, target(receiver, *SECRETS))

    [call] = receiver.calls
    assert call.headers["webhook-signature"].count("v1,") == 2
    for secret in SECRETS:
        assert verified(call, secret)


async def test_a_retry_has_the_same_id_and_body_and_its_own_time(receiver: Receiver) -> None:
    clock = iter((time.time() - 10, time.time(), time.time(), time.time(), time.time()))
    async with WebhookChannel(wall=lambda: next(clock)) as channel:
        receiver.script(Reply(500))
        assert (await channel.send(NOTIFICATION, target(receiver))).kind == "retry"
        assert (await channel.send(NOTIFICATION, target(receiver))).kind == "sent"

    first, second = receiver.calls
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body
    assert first.headers["webhook-timestamp"] < second.headers["webhook-timestamp"]
    assert verified(first) == verified(second)


def test_ids_tell_notifications_and_channels_apart_and_hold_no_dot() -> None:
    ids = {webhook_id(f"n-{n}/webhook/{name}") for n in (1, 2) for name in ("a.b", "c")}

    assert len(ids) == 4
    assert not any("." in one for one in ids)


@pytest.mark.parametrize(
    ("status", "headers", "kind", "reason", "wait"),
    [
        (200, {}, "sent", "sent", None),
        (302, {"Location": "/elsewhere"}, "failed", "redirect_refused", None),
        (400, {}, "failed", "bad_request", None),
        (401, {}, "retry", "key_refused", None),
        (404, {}, "retry", "not_found", None),
        (410, {}, "retry", "not_found", None),
        (413, {}, "failed", "too_large", None),
        (422, {}, "failed", "refused", None),
        (429, {"Retry-After": "7"}, "retry", "throttled", 7.0),
        (503, {"Retry-After": "9"}, "retry", "server_error", 9.0),
        (500, {}, "retry", "server_error", None),
    ],
)
async def test_what_an_answer_means(
    status: int,
    headers: dict[str, str],
    kind: str,
    reason: str,
    wait: float | None,
    channel: WebhookChannel,
    receiver: Receiver,
) -> None:
    receiver.script(Reply(status, headers))

    outcome = await channel.send(NOTIFICATION, target(receiver))

    assert (outcome.kind, outcome.status, outcome.reason) == (kind, status, reason)
    assert outcome.retry_after == wait
    assert outcome.origin_pause == (wait is not None)
    assert outcome.counts == (status != 429)
    assert len(receiver.calls) == 1, "no redirect is followed"


async def test_a_receiver_that_hangs_or_never_ends_costs_no_more_than_its_time(
    channel: WebhookChannel, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own, "TOTAL", 0.3)
    receiver.script(Reply(hang=True), Reply(200, endless=True))

    hung = await channel.send(NOTIFICATION, target(receiver))
    endless = await channel.send(NOTIFICATION, target(receiver))

    assert (hung.kind, hung.reason) == ("retry", "timeout")
    assert endless.kind == "sent"


async def test_a_receiver_that_is_not_there_is_tried_again(channel: WebhookChannel) -> None:
    async with Canary("127.0.0.1") as gone:
        url = f"http://127.0.0.1:{gone.port}/"

    outcome = await channel.send(NOTIFICATION, WebhookTarget(url, (b"k" * 24,), url))

    assert (outcome.kind, outcome.reason) == ("retry", "connect")


def test_a_target_never_shows_its_secrets() -> None:
    shown = repr(WebhookTarget("http://one/CANARY", (b"CANARY",), "http://one"))

    assert "CANARY" not in shown
    assert "http://one" in shown
