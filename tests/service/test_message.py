"""What of a message each reader is told."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from quotabell.domain.facts import AUDIENCES, Audience
from quotabell.service.message import audience, said
from quotabell.store.delivery import Claimed, Message, Subscription

NOW = datetime(2026, 11, 23, 13, tzinfo=UTC)
QUOTA = {
    "quota": "reported",
    "provider": "openai",
    "model": "gpt-5",
    "tokensUsed": 1_800_000,
    "tokenLimit": 2_000_000,
    "periodEnd": "2026-11-23T16:00:00+00:00",
}


def message(kind: str = "threshold", transition: str = "firing", **data: Any) -> Message:
    return Message(
        notification_id="n",
        kind=kind,
        transition=transition,
        title="plain",
        body="of alice",
        data=data,
        level=90.0,
        user="alice",
        created_at=NOW,
        alert_id="a",
    )


def claimed(user: str | None, channel: str = "webpush") -> Claimed:
    browser = None if user is None else Subscription(True, "", "", "", None, user)
    of = message()
    return Claimed(1, channel, "t", "o", 1, 1, 0, 60.0, 0.0, of, browser)


@pytest.mark.parametrize(
    ("delivery", "expected"),
    [
        (claimed("alice"), "owner"),
        (claimed("bob"), "others"),
        (claimed(""), "operators"),
        (claimed(None, "webhook"), "operators"),
    ],
)
def test_who_reads_follows_from_the_browser_or_the_channel(
    delivery: Claimed, expected: Audience
) -> None:
    assert audience(delivery) == expected


def test_a_shared_quota_s_message_has_no_owner_among_users() -> None:
    delivery = claimed("alice")

    assert audience(replace(delivery, message=replace(delivery.message, user=""))) == "others"


def test_the_words_made_for_a_reader_are_told() -> None:
    of = message(**QUOTA, words={"owner": ["a", "b", "c"]})

    assert said(of, "owner").text == "c"


@pytest.mark.parametrize("kept", [None, 5, {}, {"others": ["a"]}, {"others": [1, 2, 3]}])
def test_a_message_without_words_is_made_of_its_facts_and_names_nobody_to_others(
    kept: Any,
) -> None:
    told = said(message(**QUOTA, words=kept), "others")

    assert told.title == "openai / gpt-5 is at 90 %"
    assert told.body == "1.8 M of 2 M tokens by one user, resets in 3 h"


@pytest.mark.parametrize(
    ("of", "title", "body"),
    [
        (
            message("forecast", **QUOTA, burn=78.6, exhaustsAt="2026-11-23T13:42:24+00:00"),
            "openai / gpt-5 runs out in about 42 min",
            "1.8 M of 2 M tokens by alice (90 %), 4,716 tokens a minute now, resets in 3 h",
        ),
        (
            message("stale", subject="apps/x", lastEventAt="2026-11-23T12:00:00Z", usualPause=90),
            "apps/x stopped reporting",
            "last seen 1 h ago, usually within 2 min",
        ),
        (
            message("stale", "resolved", subject="apps/x", silentFor=7200, reason="reports again"),
            "apps/x reports again",
            "after 2 h",
        ),
        (
            message(
                "channel", subject="webhook ops", failingSince="2026-11-23T12:35:00Z", error="http"
            ),
            "Channel webhook ops does not deliver",
            "nothing has arrived for 25 min, last error: http",
        ),
        (message("test", "test"), "plain", "of alice"),
        (message("stale"), "plain", "of alice"),
        (message(tokensUsed=True, provider="p", model="m"), "plain", "of alice"),
    ],
)
def test_each_kind_is_worded_by_what_its_row_holds(of: Message, title: str, body: str) -> None:
    told = said(of, "operators")

    assert (told.title, told.body) == (title, body)


@pytest.mark.parametrize("value", [None, [], {}, "x", -1, 1e400, float("nan"), "0001-01-01"])
@pytest.mark.parametrize("kind", ["threshold", "forecast", "stale", "channel"])
def test_whatever_a_row_holds_something_is_said(kind: str, value: Any) -> None:
    keys = (*QUOTA, "burn", "exhaustsAt", "subject", "lastEventAt", "usualPause", "silentFor")
    for key in (*keys, "failingSince", "error", "failed", "reason"):
        for transition in ("firing", "resolved"):
            data = {**QUOTA, "subject": "s", key: value}
            for reader in AUDIENCES:
                assert said(message(kind, transition, **data), reader).title
