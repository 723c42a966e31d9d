"""Apprise with one of its own services, on loopback."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from quotabell.channels import apprise as module
from quotabell.channels.apprise import AppriseChannel, AppriseTarget
from quotabell.log import configure
from tests.channels.test_webhook import NOTIFICATION
from tests.support.receiver import Receiver, Reply

pytest.importorskip("apprise")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


def target(receiver: Receiver) -> AppriseTarget:
    url = receiver.origin.replace("http://", "json://CANARY:CANARY@") + "/CANARY"
    return AppriseTarget(url, "apprise:chat")


async def test_a_message_arrives_through_apprise(receiver: Receiver) -> None:
    async with AppriseChannel() as channel:
        outcome = await channel.send(NOTIFICATION, target(receiver))

    assert outcome.kind == "sent"
    [call] = receiver.calls
    told = json.loads(call.body)
    assert (told["title"], told["message"]) == (NOTIFICATION.title, NOTIFICATION.text)
    assert told["type"] == "warning"


async def test_apprise_is_told_the_short_form_where_there_is_no_long_one(
    receiver: Receiver,
) -> None:
    async with AppriseChannel() as channel:
        await channel.send(replace(NOTIFICATION, text=""), target(receiver))

    [call] = receiver.calls
    assert json.loads(call.body)["message"] == NOTIFICATION.body


async def test_a_message_that_is_not_accepted_is_tried_again_without_a_word_of_secrets(
    receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    receiver.always = Reply(403)
    logging_ = configure("debug")
    async with AppriseChannel() as channel:
        with logging_.capture_stdlib():
            logging.getLogger("apprise").error("json://CANARY is logged")
            outcome = await channel.send(NOTIFICATION, target(receiver))
            logging.getLogger("other").error("heard")

    assert (outcome.kind, outcome.reason) == ("retry", "not_accepted")
    said = "".join(capsys.readouterr())
    assert "heard" in said
    assert "CANARY" not in said + repr(target(receiver)) + outcome.reason


async def test_a_service_that_hangs_ends_in_time_and_leaves_the_loop_alone(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TOTAL", 0.3)
    receiver.always = Reply(hang=True)
    async with AppriseChannel() as channel:
        outcome = await channel.send(NOTIFICATION, target(receiver))

    assert (outcome.kind, outcome.reason) == ("retry", "timeout")


async def test_a_url_that_leads_nowhere_fails() -> None:
    async with AppriseChannel() as channel:
        outcome = await channel.send(NOTIFICATION, AppriseTarget("nonsense://x", "apprise:x"))

    assert (outcome.kind, outcome.reason) == ("failed", "bad_url")
