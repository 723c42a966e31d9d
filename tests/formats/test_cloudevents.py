"""CloudEvents: envelopes, and the data that tells of tokens."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quotabell.domain.events import Kinds
from quotabell.errors import Malformed
from quotabell.formats import cloudevents

NOW = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)


def event(data: Any, **changes: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "e-1",
        "source": "my-app",
        "type": "prompt",
        "subject": "alice",
        "time": "2026-11-22T12:00:00+00:00",
        "data": data,
    } | changes


def decode(body: Any) -> cloudevents.ReceivedEvents:
    return cloudevents.decode(
        json.dumps(body).encode(),
        now=NOW,
        future_skew=timedelta(minutes=5),
        oldest=NOW - timedelta(days=35),
        max_batch=100,
    )


@pytest.mark.parametrize(
    ("data", "kinds"),
    [
        ({"prompt_tokens": 100, "completion_tokens": 50}, Kinds(100, 0, 0, 50)),
        ({"tokens": 100, "type": "input"}, Kinds(100)),
        ({"tokens": "100", "type": "output"}, Kinds(output=100)),
        ({"usage": {"input_tokens": 5, "cache_read_input_tokens": 9}}, Kinds(5, 9)),
        ({"input_tokens": 5, "output_tokens": 6, "prompt": "secret"}, Kinds(5, 0, 0, 6)),
    ],
)
def test_tokens_are_read_in_the_words_of_several(data: dict[str, Any], kinds: Kinds) -> None:
    (found,) = decode(event(data | {"model": "gpt-5"})).events

    assert found.kinds == kinds
    assert (found.source, found.id, found.provider, found.user_id) == (
        *("my-app", "e-1", "openai"),
        "alice",
    )


def test_a_batch_is_its_events_and_a_bad_one_costs_only_itself() -> None:
    good = {"tokens": 5}
    found = decode(
        [
            event(good),
            event(good, specversion="0.3"),
            event({}, id="2"),
            event(good, id=""),
            event(None),
            event(good, time="noon"),
            {"event": {"transaction_id": "lago"}},
            event(good, type="litellm_tokens"),
        ]
    )

    assert len(found.events) == 2
    assert found.foreign == [False, True]
    assert [(e.index, e.path) for e in found.errors] == [
        *((1, "specversion"), (2, "data"), (3, "id"), (4, "data"), (5, "time"), (6, ""))
    ]


def test_without_a_time_it_is_now() -> None:
    (found,) = decode(event({"tokens": 5}, time=None, subject=None)).events

    assert (found.time, found.user_id) == (NOW, "")


def test_what_is_no_json_is_malformed() -> None:
    with pytest.raises(Malformed):
        cloudevents.decode(b"{", now=NOW, future_skew=timedelta(), oldest=NOW, max_batch=1)
