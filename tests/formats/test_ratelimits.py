"""What headers of answers tell of limits: a table of sets as they were recorded or are known."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotabell.formats.ratelimits import learned

AT = datetime(2026, 11, 22, 12, 59, tzinfo=UTC)
CAPTURES = Path(__file__).parent / "captures" / "litellm-generic"

RECORDED = {
    "real-openai-001": {
        "reported:requests": "1 of 10000 requests until 12:59:00.006",
        "reported:tokens": "1235 of 2000000 tokens until 12:59:00.037",
    },
    "real-anthropic-001": {
        "reported:requests": "1 of 4000 requests until 13:00:00",
        "reported:tokens": "10000 of 480000 tokens until 13:00:00",
        "reported:input_tokens": "1000 of 400000 tokens until 13:00:00",
        "reported:output_tokens": "1000 of 80000 tokens until 13:00:00",
    },
    "real-gemini-001": {},
}

KNOWN: list[tuple[str, dict[str, Any], dict[str, str]]] = [
    (
        "OpenAI, durations of Go",
        {
            "x-ratelimit-limit-tokens": "150000",
            "x-ratelimit-remaining-tokens": "149984",
            "x-ratelimit-reset-tokens": "6m0s",
            "x-ratelimit-limit-requests": "60",
            "x-ratelimit-remaining-requests": "59",
            "x-ratelimit-reset-requests": "1h1m1.5s",
        },
        {
            "reported:tokens": "16 of 150000 tokens until 13:05:00",
            "reported:requests": "1 of 60 requests until 14:00:01.500",
        },
    ),
    (
        "as LiteLLM normalises it, numbers",
        {"x_ratelimit_limit_tokens": 2000000, "x_ratelimit_remaining_tokens": 1998765},
        {"reported:tokens": "1235 of 2000000 tokens"},
    ),
    (
        "Azure does not know",
        {
            "x-ratelimit-limit-tokens": "-1",
            "x-ratelimit-remaining-tokens": "-1",
            "x-ratelimit-limit-requests": "0",
            "x-ratelimit-remaining-requests": "0",
        },
        {},
    ),
    (
        "an Anthropic subscription: a share from 0 to 1, seconds since 1970",
        {
            "llm_provider-anthropic-ratelimit-unified-5h-utilization": "0.29",
            "llm_provider-anthropic-ratelimit-unified-5h-reset": "1795356000",
            "llm_provider-anthropic-ratelimit-unified-7d-utilization": "1.02",
            "llm_provider-anthropic-ratelimit-unified-7d-reset": "1795906800",
            "llm_provider-anthropic-ratelimit-unified-status": "allowed",
        },
        {
            "reported:5h": "29 of 100 percent until 14:00:00",
            "reported:7d": "102 of 100 percent until 23:00:00",
        },
    ),
    (
        "a Codex plan: percent from 0 to 100, seconds from now or since 1970",
        {
            "x-codex-primary-used-percent": "99.9",
            "x-codex-primary-window-minutes": "300",
            "x-codex-primary-reset-after-seconds": "60",
            "x-codex-secondary-used-percent": "12",
            "x-codex-secondary-window-minutes": "10080",
            "x-codex-secondary-reset-at": "1795356000",
        },
        {
            "reported:5h": "99 of 100 percent until 13:00:00",
            "reported:7d": "12 of 100 percent until 14:00:00",
        },
    ),
    (
        "Groq: fractions of seconds",
        {
            "x-ratelimit-limit-tokens": "6000",
            "x-ratelimit-remaining-tokens": "0",
            "x-ratelimit-reset-tokens": "7.66s",
        },
        {"reported:tokens": "6000 of 6000 tokens until 12:59:07.660"},
    ),
    (
        "whole again already",
        {
            "anthropic-ratelimit-tokens-limit": "10",
            "anthropic-ratelimit-tokens-remaining": "0",
            "anthropic-ratelimit-tokens-reset": "2026-11-22T12:58:59Z",
        },
        {},
    ),
    (
        "more left than there is",
        {"x-ratelimit-limit-tokens": "10", "x-ratelimit-remaining-tokens": "20"},
        {"reported:tokens": "0 of 10 tokens"},
    ),
    (
        "nonsense",
        {
            "x-ratelimit-limit-tokens": "many",
            "x-ratelimit-remaining-tokens": None,
            "x-ratelimit-limit-requests": "5",
            "x-ratelimit-remaining-requests": "1",
            "x-ratelimit-reset-requests": "9" * 9 + "d",
            "anthropic-ratelimit-unified-5h-utilization": "-0.5",
        },
        {"reported:requests": "4 of 5 requests"},
    ),
]


def told(headers: dict[str, Any]) -> dict[str, str]:
    found = {}
    for state in learned(headers, "p", "m", AT, AT):
        text = f"{state.tokens_used} of {state.token_limit} {state.unit}"
        if state.reset is not None:
            until = state.reset.time().isoformat("auto")
            text += f" until {until[:12]}"
        found[state.quota] = text
    return found


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_answers_tell_of_their_limits(name: str) -> None:
    (item,) = json.loads((CAPTURES / f"{name}.bin").read_text())

    assert told(item["hidden_params"]["additional_headers"]) == RECORDED[name]


@pytest.mark.parametrize(
    ("headers", "expected"), [case[1:] for case in KNOWN], ids=[c[0] for c in KNOWN]
)
def test_known_headers_tell_of_their_limits(
    headers: dict[str, Any], expected: dict[str, str]
) -> None:
    assert told(headers) == expected


def test_limits_of_a_plan_are_those_of_all_models_together() -> None:
    (state,) = learned({"anthropic-ratelimit-unified-5h-utilization": "0.5"}, "p", "m", AT, AT)

    assert (state.provider, state.model, state.timestamp) == ("p", "*", AT)


def test_an_old_answer_does_not_tell_of_what_is_over() -> None:
    headers = {
        "x-ratelimit-limit-tokens": "10",
        "x-ratelimit-remaining-tokens": "1",
        "x-ratelimit-reset-tokens": "10s",
    }

    assert learned(headers, "p", "m", AT, AT + timedelta(seconds=9))
    assert not learned(headers, "p", "m", AT, AT + timedelta(seconds=11))


HEADERS = st.sampled_from(sorted({name for _, headers, _ in KNOWN for name in headers}))
VALUES = st.one_of(
    st.text(max_size=20), st.floats(), st.integers(), st.none(), st.from_regex(r"\d+(ms|s|m|h|d)")
)


@given(st.dictionaries(HEADERS, VALUES))
def test_no_headers_break_it(headers: dict[str, Any]) -> None:
    for state in learned(headers, "p", "m", AT, AT):
        assert state.tokens_used >= 0
        assert (state.token_limit or 1) > 0
