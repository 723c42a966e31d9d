"""Usage objects as providers return them, and the disjoint kinds that they stand for."""

from __future__ import annotations

import json
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quotabell.domain.events import Kinds
from quotabell.domain.usage import BIGINT_MAX
from quotabell.formats import provider_usage
from quotabell.formats.provider_usage import Usage


def kinds(usage: dict) -> Kinds | None:
    return provider_usage.kinds(msgspec.json.decode(json.dumps(usage), type=Usage))


def shape(text: str) -> dict:
    """``name=1 details.name=2 name=null`` as a usage object."""
    found: dict = {}
    for word in text.split():
        path, _, value = word.partition("=")
        *outer, name = path.split(".")
        place = found
        for part in outer:
            place = place.setdefault(part, {})
        place[name] = json.loads(value)
    return found


I, R, W, O, T, X = "input", "cache_read", "cache_write", "output", "reasoning", "other"  # noqa: E741

# Where the shape comes from, the object, and what it means.
SHAPES = [
    # --- OpenAI chat: the cache is inside the prompt, reasoning inside the completion
    (
        "openai chat, recorded",
        "prompt_tokens=1200 completion_tokens=340 total_tokens=1540"
        " prompt_tokens_details.cached_tokens=1024 prompt_tokens_details.audio_tokens=0"
        " completion_tokens_details.reasoning_tokens=256"
        " completion_tokens_details.accepted_prediction_tokens=0",
        {I: 176, R: 1024, O: 84, T: 256},
    ),
    (
        "openai chat with a cache write",
        "prompt_tokens=1200 completion_tokens=10 total_tokens=1210"
        " prompt_tokens_details.cached_tokens=1000 prompt_tokens_details.cache_write_tokens=150",
        {I: 50, R: 1000, W: 150, O: 10},
    ),
    (
        "openai chat with null details",
        "prompt_tokens=10 completion_tokens=20 total_tokens=30"
        " prompt_tokens_details=null completion_tokens_details=null",
        {I: 10, O: 20},
    ),
    (
        "openai chat with nulls inside",
        "prompt_tokens=10 completion_tokens=null total_tokens=null"
        " prompt_tokens_details.cached_tokens=null"
        " completion_tokens_details.reasoning_tokens=null",
        {I: 10},
    ),
    ("openai embedding, recorded", "prompt_tokens=8 total_tokens=8", {I: 8}),
    (
        "openai audio: a modality is part of the kinds",
        "prompt_tokens=100 completion_tokens=50 total_tokens=150"
        " prompt_tokens_details.audio_tokens=80 prompt_tokens_details.cached_tokens=20"
        " completion_tokens_details.audio_tokens=40",
        {I: 80, R: 20, O: 50},
    ),
    ("zero, recorded from a stream", "prompt_tokens=0 completion_tokens=0 total_tokens=0", {}),
    ("only a total", "total_tokens=42", {X: 42}),
    (
        "a total above the kinds",
        "prompt_tokens=10 completion_tokens=20 total_tokens=37",
        {I: 10, O: 20, X: 7},
    ),
    (
        "a total below the kinds",
        "prompt_tokens=10 completion_tokens=20 total_tokens=25",
        {I: 10, O: 20},
    ),
    # --- speaking OpenAI's shape, with other habits
    (
        "xai's documentation: reasoning beside the completion, and larger than it",
        "prompt_tokens=32 completion_tokens=9 total_tokens=135"
        " prompt_tokens_details.cached_tokens=6 completion_tokens_details.reasoning_tokens=94",
        {I: 26, R: 6, O: 9, T: 94},
    ),
    (
        "xai: reasoning smaller than the completion, the total tells",
        "prompt_tokens=100 completion_tokens=50 total_tokens=190"
        " completion_tokens_details.reasoning_tokens=40",
        {I: 100, O: 50, T: 40},
    ),
    (
        "reasoning larger than the output, without a total",
        "prompt_tokens=1 completion_tokens=2 completion_tokens_details.reasoning_tokens=317",
        {I: 1, O: 2, T: 317},
    ),
    (
        "deepseek",
        "prompt_tokens=100 completion_tokens=5 total_tokens=105"
        " prompt_cache_hit_tokens=64 prompt_cache_miss_tokens=36",
        {I: 36, R: 64, O: 5},
    ),
    (
        "gemini through an OpenAI endpoint: thoughts in the total only",
        "prompt_tokens=900 completion_tokens=60 total_tokens=1160",
        {I: 900, O: 60, X: 200},
    ),
    (
        "litellm, anthropic, recorded: the cache said twice, inside both times",
        "prompt_tokens=2350 completion_tokens=77 total_tokens=2427"
        " prompt_tokens_details.cached_tokens=2000 prompt_tokens_details.cache_write_tokens=300"
        " prompt_tokens_details.cache_creation_tokens=300 prompt_tokens_details.text_tokens=50"
        " completion_tokens_details.reasoning_tokens=0 completion_tokens_details.text_tokens=77"
        " cache_creation_input_tokens=300 cache_read_input_tokens=2000",
        {I: 50, R: 2000, W: 300, O: 77},
    ),
    (
        "litellm, gemini, recorded: thoughts inside the completion",
        "prompt_tokens=900 completion_tokens=260 total_tokens=1160"
        " prompt_tokens_details.cached_tokens=512 completion_tokens_details.reasoning_tokens=200"
        " completion_tokens_details.text_tokens=60 cache_read_input_tokens=512",
        {I: 388, R: 512, O: 60, T: 200},
    ),
    (
        "a gateway that leaves Anthropic's cache beside the prompt, smaller than it",
        "prompt_tokens=500 completion_tokens=77 total_tokens=677"
        " prompt_tokens_details.cached_tokens=100",
        {I: 500, R: 100, O: 77},
    ),
    (
        "the same, with reasoning inside the completion",
        "prompt_tokens=500 completion_tokens=77 total_tokens=677"
        " prompt_tokens_details.cached_tokens=100 completion_tokens_details.reasoning_tokens=7",
        {I: 500, R: 100, O: 70, T: 7},
    ),
    (
        "the same, with both beside",
        "prompt_tokens=500 completion_tokens=77 total_tokens=684"
        " prompt_tokens_details.cached_tokens=100 completion_tokens_details.reasoning_tokens=7",
        {I: 500, R: 100, O: 77, T: 7},
    ),
    (
        "a gateway that sends two sets and fills one with zeros",
        "prompt_tokens=0 completion_tokens=0 total_tokens=12 input_tokens=7 output_tokens=5",
        {I: 7, O: 5},
    ),
    # --- OpenAI responses
    (
        "openai responses",
        "input_tokens=1200 output_tokens=340 total_tokens=1540"
        " input_tokens_details.cached_tokens=1024 output_tokens_details.reasoning_tokens=256",
        {I: 176, R: 1024, O: 84, T: 256},
    ),
    (
        "openai responses without a cache",
        "input_tokens=12 output_tokens=3 total_tokens=15 input_tokens_details.cached_tokens=0"
        " output_tokens_details.reasoning_tokens=0",
        {I: 12, O: 3},
    ),
    # --- Anthropic messages: the cache lies beside the input
    (
        "anthropic, recorded behind its client",
        "input_tokens=50 cache_read_input_tokens=2000 cache_creation_input_tokens=300"
        " cache_creation.ephemeral_5m_input_tokens=300"
        " cache_creation.ephemeral_1h_input_tokens=0 output_tokens=77",
        {I: 50, R: 2000, W: 300, O: 77},
    ),
    (
        "anthropic: a cache smaller than the input still lies beside it",
        "input_tokens=5000 cache_read_input_tokens=20 cache_creation_input_tokens=3"
        " output_tokens=7",
        {I: 5000, R: 20, W: 3, O: 7},
    ),
    (
        "anthropic: only the breakdown of what was written",
        "input_tokens=5 cache_creation.ephemeral_5m_input_tokens=2"
        " cache_creation.ephemeral_1h_input_tokens=3 output_tokens=7",
        {I: 5, W: 5, O: 7},
    ),
    (
        "anthropic: thinking is part of the output",
        "input_tokens=5 output_tokens=100 output_tokens_details.thinking_tokens=60",
        {I: 5, O: 40, T: 60},
    ),
    (
        "anthropic: all input from the cache",
        "input_tokens=0 cache_read_input_tokens=2000 output_tokens=7",
        {R: 2000, O: 7},
    ),
    ("anthropic: the delta at the end of a stream", "output_tokens=15", {O: 15}),
    (
        "anthropic with nulls",
        "input_tokens=9 cache_read_input_tokens=null cache_creation_input_tokens=null"
        " cache_creation=null output_tokens=1 service_tier=null server_tool_use=null",
        {I: 9, O: 1},
    ),
    (
        "anthropic behind a gateway that adds up a total of all",
        "input_tokens=500 cache_read_input_tokens=200 output_tokens=77 total_tokens=777",
        {I: 500, R: 200, O: 77},
    ),
    (
        "anthropic behind a gateway that counts the cache as input",
        "input_tokens=500 cache_read_input_tokens=200 output_tokens=77 total_tokens=577",
        {I: 300, R: 200, O: 77},
    ),
    # --- Gemini: the cache is inside the prompt, thoughts and tools lie beside
    (
        "gemini, recorded behind its client",
        "promptTokenCount=900 cachedContentTokenCount=512 candidatesTokenCount=60"
        " thoughtsTokenCount=200 totalTokenCount=1160",
        {I: 388, R: 512, O: 60, T: 200},
    ),
    (
        "gemini with a tool's prompt",
        "promptTokenCount=100 candidatesTokenCount=40 toolUsePromptTokenCount=25"
        " totalTokenCount=165",
        {I: 100, O: 40, X: 25},
    ),
    (
        "gemini, AI Studio: thoughts inside the candidates, the total tells",
        "promptTokenCount=10 candidatesTokenCount=10 thoughtsTokenCount=5 totalTokenCount=20",
        {I: 10, O: 5, T: 5},
    ),
    (
        "gemini cut off while thinking",
        "promptTokenCount=10 thoughtsTokenCount=50 totalTokenCount=60",
        {I: 10, T: 50},
    ),
    ("gemini without a total", "promptTokenCount=10 thoughtsTokenCount=50", {I: 10, T: 50}),
    ("gemini refused the prompt", "promptTokenCount=10 totalTokenCount=10", {I: 10}),
    ("gemini, modalities", 'promptTokenCount=3 promptTokensDetails=[{"tokenCount":3}]', {I: 3}),
    (
        "gemini's Python client",
        "prompt_token_count=900 cached_content_token_count=512 candidates_token_count=60"
        " thoughts_token_count=200 tool_use_prompt_token_count=5 total_token_count=1165"
        " prompt_tokens_details=null cache_tokens_details=null",
        {I: 388, R: 512, O: 60, T: 200, X: 5},
    ),
]


@pytest.mark.parametrize(("usage", "expected"), [s[1:] for s in SHAPES], ids=[s[0] for s in SHAPES])
def test_a_providers_usage_becomes_disjoint_kinds(usage, expected):
    assert kinds(shape(usage)) == Kinds(**expected)


@pytest.mark.parametrize(
    "usage",
    [
        "",
        "prompt_tokens=null completion_tokens=null",
        "input_tokens_details.cached_tokens=0",
        "inputTokens=5 outputTokens=3",
        'type="duration" seconds=9',
    ],
)
def test_an_object_without_a_count_is_no_usage(usage):
    assert kinds(shape(usage)) is None


_counts = st.none() | st.integers(0, 40) | st.integers(0, BIGINT_MAX)


def objects(struct: type[msgspec.Struct]) -> st.SearchStrategy[dict]:
    fields = {}
    for field in msgspec.structs.fields(struct):
        nested = [
            a for a in get_args(field.type) if isinstance(a, type) and issubclass(a, msgspec.Struct)
        ]
        fields[field.encode_name] = st.none() | objects(nested[0]) if nested else _counts
    return st.fixed_dictionaries({}, optional=fields)


@given(objects(Usage))
def test_no_kind_is_negative_and_a_providers_total_is_reached(usage):
    found = kinds(usage)

    if found is None:
        assert not any(isinstance(v, int) for v in usage.values())
        return
    assert min(found) >= 0
    total = (
        usage.get("total_tokens")
        or usage.get("totalTokenCount")
        or usage.get("total_token_count")
        or 0
    )
    assert found.total >= total


_openai = st.tuples(*[st.integers(0, 50)] * 6)


@given(_openai)
def test_what_a_provider_nests_is_counted_once(parts):
    plain, read, write, visible, reasoning, _ = parts
    prompt, completion = plain + read + write, visible + reasoning
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": write},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    expected = Kinds(plain, read, write, visible, reasoning)

    assert kinds(usage | {"total_tokens": prompt + completion + 1}) is not None
    if any(expected):
        assert kinds(usage) == kinds(usage | {"total_tokens": prompt + completion}) == expected


@given(_openai)
def test_what_a_provider_puts_beside_is_counted_once(parts):
    plain, read, _, visible, thoughts, tool = parts
    usage = {
        "promptTokenCount": plain + read,
        "cachedContentTokenCount": read,
        "candidatesTokenCount": visible,
        "thoughtsTokenCount": thoughts,
        "toolUsePromptTokenCount": tool,
    }
    expected = Kinds(plain, read, 0, visible, thoughts, tool)

    assert kinds(usage) == kinds(usage | {"totalTokenCount": expected.total}) == expected


@pytest.mark.parametrize(
    ("struct", "body"),
    [
        (Usage, provider_usage.UsageBody),
        (provider_usage.InputDetails, provider_usage.InputDetailsBody),
        (provider_usage.OutputDetails, provider_usage.OutputDetailsBody),
        (provider_usage.CacheCreation, provider_usage.CacheCreationBody),
    ],
)
def test_both_decoders_read_the_same_fields(struct, body):
    assert struct.__struct_encode_fields__ == tuple(body.model_fields)
