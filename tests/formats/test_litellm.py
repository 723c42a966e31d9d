"""Items of LiteLLM's ``generic_api`` callback: what counts, whose it is, what is refused alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quotabell.config.sources import Identity
from quotabell.domain.events import Kinds
from quotabell.errors import Malformed, Rejected
from quotabell.formats import litellm, received
from quotabell.formats.received import Received

NOW = datetime(2026, 11, 22, 13, 0, tzinfo=UTC)


def item(**changes: Any) -> dict[str, Any]:
    return {
        "litellm_call_id": "call-1",
        "status": "success",
        "custom_llm_provider": "openai",
        "model": "gpt-4o",
        "endTime": NOW.timestamp() - 1,
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "response_cost": 0.25,
        "metadata": {"user_api_key_user_id": "alice"},
    } | changes


def decode(body: Any, max_batch: int = 100) -> Received:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return litellm.decode(
        raw,
        now=NOW,
        future_skew=timedelta(minutes=5),
        oldest=NOW - timedelta(days=35),
        max_batch=max_batch,
        users=Identity().litellm,
    )


def one(**changes: Any) -> Any:
    found = decode(item(**changes))
    assert not found.errors
    return found.events[0] if found.events else None


def test_an_item_is_an_event() -> None:
    event = one()

    assert event.source == "litellm"
    assert event.id == "call-1"
    assert event.time == NOW - timedelta(seconds=1)
    assert event.kinds == Kinds(10, 0, 0, 5)
    assert str(event.cost_usd) == "0.2500000000"


@pytest.mark.parametrize(
    "body",
    [
        json.dumps([item(), item(litellm_call_id="2")]),
        json.dumps(item()) + "\n" + json.dumps(item(litellm_call_id="2")),
        json.dumps(item()) + "\n\n" + json.dumps(item(litellm_call_id="2")) + "\n",
        " [" + json.dumps(item()) + " ,\n" + json.dumps(item(litellm_call_id="2")) + "]\n",
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_arrays_and_lines_are_items(
    body: str, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not at_once:
        monkeypatch.setattr(received, "LARGE", 0)

    assert [event.id for event in decode(body.encode()).events] == ["call-1", "2"]


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "failure"},
        {"cache_hit": True},
        {"cache_hit": "True"},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        {"prompt_tokens": None, "completion_tokens": None, "total_tokens": None},
    ],
)
def test_what_no_provider_counted_is_skipped(changes: dict[str, Any]) -> None:
    assert one(**changes) is None


@pytest.mark.parametrize(
    ("changes", "user"),
    [
        ({}, "alice"),
        ({"end_user": "eve"}, "alice"),
        ({"metadata": {"user_api_key_user_id": "default_user_id"}, "end_user": "eve"}, "eve"),
        ({"metadata": {}, "end_user": "", "model_parameters": {"user": "mo"}}, "mo"),
        ({"metadata": {"user_api_key_end_user_id": "end"}}, "end"),
        ({"metadata": None}, ""),
    ],
)
def test_the_user_is_the_first_that_is_named(changes: dict[str, Any], user: str) -> None:
    assert one(**changes).user_id == user


@pytest.mark.parametrize(
    ("provider", "model", "named"),
    [
        ("openai", "openai/gpt-4o-2024-08-06", ("openai", "gpt-4o")),
        ("azure", "azure/my-deployment", ("azure", "my-deployment")),
        ("anthropic", "claude-sonnet-4-5-20250929", ("anthropic", "claude-sonnet-4-5")),
        ("bedrock", "anthropic.claude-3", ("bedrock", "anthropic.claude-3")),
        (None, "claude-opus-4", ("anthropic", "claude-opus-4")),
        (None, None, ("unknown", "unknown")),
    ],
)
def test_providers_and_models_have_one_name(
    provider: str | None, model: str | None, named: tuple[str, str]
) -> None:
    event = one(custom_llm_provider=provider, model=model)

    assert (event.provider, event.model) == named


def test_a_bad_item_costs_only_itself() -> None:
    found = decode(
        [
            item(),
            item(prompt_tokens="many"),
            7,
            item(model="\0"),
            item(endTime=NOW.timestamp() + 900),
            item(endTime=0),
            item(litellm_call_id=None, usage="Usage(...)"),
        ]
    )

    assert len(found.events) == 1
    assert [(e.index, e.path) for e in found.errors] == [
        (1, "prompt_tokens"),
        (2, ""),
        (3, "model"),
        (4, "time"),
        (5, "time"),
        (6, "litellm_call_id"),
    ]


def test_an_id_of_any_length_is_kept_as_one() -> None:
    event = one(litellm_call_id="x" * 5000)

    assert event.id.startswith("sha256:")
    assert event.id == one(litellm_call_id="x" * 5000).id


def test_messages_and_answers_are_nowhere() -> None:
    canary = "the-canary-sings"
    found = decode(item(messages=[{"content": canary}], response={"text": canary}))

    assert canary not in repr(found)


@pytest.mark.parametrize("body", [b"[1", b"{", b"[{}}", b"\xff", b"[] x", b'[{"a": 1e}]'])
def test_what_is_no_json_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        decode(body)


def test_too_many_items_are_refused() -> None:
    with pytest.raises(Rejected):
        decode([item()] * 4, max_batch=3)


def test_an_empty_array_is_nothing() -> None:
    assert decode([]) == Received()
