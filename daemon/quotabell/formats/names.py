"""What instrumentations call things, as data: one table for all OpenTelemetry formats.

Another tool is added by a line here, or by the operator in the configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

from quotabell.domain.series import Nesting, Role

Signal = Literal["traces", "logs", "metrics"]

BESIDE = Nesting(cache_inside=False, reasoning_inside=False)
_USAGE = "gen_ai.usage."
_COUNT = "llm.token_count."


class Attributes(NamedTuple):
    """By which attributes a call is described, the first that says something counts.

    The parts (cache and reasoning) are counted within input and output, as OpenTelemetry and
    OpenInference have it.
    """

    provider: tuple[str, ...]
    model: tuple[str, ...]
    id: tuple[str, ...]
    input: tuple[str, ...]
    output: tuple[str, ...]
    cache_read: tuple[str, ...]
    cache_write: tuple[str, ...]
    reasoning: tuple[str, ...]
    other: tuple[str, ...]
    total: tuple[str, ...]
    cost: tuple[str, ...]


SPAN = Attributes(
    provider=("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system"),
    model=(
        "gen_ai.response.model",
        "gen_ai.request.model",
        "llm.response.model",
        "llm.request.model",
        "llm.model_name",
        "embedding.model_name",
    ),
    id=("gen_ai.response.id", "llm.response.id"),
    input=(
        _USAGE + "input_tokens",
        _USAGE + "prompt_tokens",
        "llm.usage.prompt_tokens",
        _COUNT + "prompt",
    ),
    output=(
        _USAGE + "output_tokens",
        _USAGE + "completion_tokens",
        "llm.usage.completion_tokens",
        _COUNT + "completion",
    ),
    cache_read=(
        _USAGE + "cache_read.input_tokens",
        _USAGE + "cache_read_input_tokens",
        _USAGE + "cache_read_tokens",
        _USAGE + "input_cached_tokens",
        _USAGE + "details.cache_read_tokens",
        "llm.usage.cache_read_input_tokens",
        _COUNT + "prompt_details.cache_read",
    ),
    cache_write=(
        _USAGE + "cache_write.input_tokens",
        _USAGE + "cache_creation.input_tokens",
        _USAGE + "cache_creation_input_tokens",
        _USAGE + "cache_write_tokens",
        _USAGE + "details.cache_write_tokens",
        "llm.usage.cache_creation_input_tokens",
        _COUNT + "prompt_details.cache_write",
    ),
    reasoning=(
        _USAGE + "reasoning.output_tokens",
        _USAGE + "reasoning_tokens",
        _USAGE + "reasoning_output_tokens",
        _USAGE + "details.reasoning_tokens",
        "llm.usage.reasoning_tokens",
        _COUNT + "completion_details.reasoning",
    ),
    other=(),
    total=(_USAGE + "total_tokens", "llm.usage.total_tokens", _COUNT + "total"),
    cost=(_USAGE + "cost", "operation.cost", "litellm.cost.total", "gen_ai.cost.total_cost"),
)

USAGE_TEXTS = ("metadata.usage_object",)
"""Attributes that hold a provider's whole usage as text, where no attribute of its own tells cache
and reasoning: LiteLLM's otel callback (its first version) writes it as Python writes a dict."""

AGGREGATES = MappingProxyType(
    {
        # Spans that repeat what the calls within them consumed, or consume nothing themselves.
        "gen_ai.operation.name": frozenset(
            {
                "agent_step",
                "create_agent",
                "execute_tool",
                "fetch_response",
                "invoke_agent",
                "invoke_workflow",
            }
        ),
        "traceloop.span.kind": frozenset({"agent", "task", "tool", "workflow"}),
        "openinference.span.kind": frozenset(
            {"AGENT", "CHAIN", "EVALUATOR", "GUARDRAIL", "RETRIEVER", "TOOL"}
        ),
    }
)

CACHE_BESIDE = (("openlit.", "anthropic"),)
"""Beginnings of scopes that pass on an input without the cache, and of which provider."""


class LogRule(NamedTuple):
    """Records of one event that tell what a call consumed."""

    provider: str  # where none is said
    names: Attributes
    nesting: Nesting = Nesting()


class MetricRule(NamedTuple):
    """A metric that counts tokens.

    ``by``: attributes of which one says what a point counts, in the words of ``roles`` (None:
    nothing that the others do not count); without any, all count as ``role``. Metrics of one
    ``family`` together describe the same calls. ``unless``: a metric of the same scope which
    counts the same tokens and goes first.
    """

    family: str
    by: tuple[str, ...] = ()
    roles: Mapping[str, Role | None] = MappingProxyType({})
    role: Role | None = None
    provider: str = ""
    nesting: Nesting = Nesting()
    unless: str = ""


def _record(**names: str | tuple[str, ...]) -> Attributes:
    given = {k: (v,) if isinstance(v, str) else v for k, v in names.items()}
    return SPAN._replace(**{**dict.fromkeys(Attributes._fields[3:], ()), **given})


LOGS: Mapping[str, LogRule] = MappingProxyType(
    {
        "gen_ai.client.inference.operation.details": LogRule("", SPAN),
        "claude_code.api_request": LogRule(
            "anthropic",
            _record(
                model="model",
                id="request_id",
                input="input_tokens",
                output="output_tokens",
                cache_read="cache_read_tokens",
                cache_write="cache_creation_tokens",
                cost="cost_usd",
            ),
            BESIDE,
        ),
        "codex.sse_event": LogRule(
            "openai",
            _record(
                model=("model", "slug"),
                id="response.id",
                input="input_token_count",
                output="output_token_count",
                cache_read="cached_token_count",
                reasoning="reasoning_token_count",
            ),
        ),
        "gemini_cli.api_response": LogRule(
            "gemini",
            _record(
                model="model",
                id="response_id",
                input="input_token_count",
                output="output_token_count",
                cache_read="cached_content_token_count",
                reasoning="thoughts_token_count",
                other="tool_token_count",
                total="total_token_count",
            ),
            Nesting(cache_inside=True, reasoning_inside=False),
        ),
    }
)

_TYPES: Mapping[str, Role | None] = MappingProxyType(
    {
        "input": "input",
        "prompt": "input",
        "output": "output",
        "completion": "output",
        "cache_read": "cache_read",
        "cache_write": "cache_write",
        "cache_creation": "cache_write",
        "reasoning": "reasoning",
        "total": None,
    }
)


def _each(family: str, roles: Mapping[str, Role]) -> dict[str, MetricRule]:
    return {f"{family}.{name}": MetricRule(family, role=role) for name, role in roles.items()}


METRICS: Mapping[str, MetricRule] = MappingProxyType(
    {
        "gen_ai.client.token.usage": MetricRule(
            "gen_ai.client.token.usage", ("gen_ai.token.type", "type"), _TYPES
        ),
        **_each(
            "gen_ai.client.inference.usage",
            {
                "input_tokens": "input",
                "output_tokens": "output",
                "cache_read.input_tokens": "cache_read",
                "cache_write.input_tokens": "cache_write",
                "reasoning.output_tokens": "reasoning",
            },
        ),
        **_each(
            "llm.token_count",
            {
                "prompt": "input",
                "completion": "output",
                "prompt_details.cache_read": "cache_read",
                "prompt_details.cache_write": "cache_write",
                "completion_details.reasoning": "reasoning",
            },
        ),
        "llm.openai.chat_completions.tokens": MetricRule(
            "llm.openai.chat_completions.tokens",
            ("gen_ai.token.type", "llm.usage.token_type"),
            _TYPES,
            provider="openai",
            unless="gen_ai.client.token.usage",
        ),
        "claude_code.token.usage": MetricRule(
            "claude_code.token.usage",
            ("type",),
            MappingProxyType(
                {
                    "input": "input",
                    "output": "output",
                    "cacheRead": "cache_read",
                    "cacheCreation": "cache_write",
                }
            ),
            provider="anthropic",
            nesting=BESIDE,
        ),
        "gemini_cli.token.usage": MetricRule(
            "gemini_cli.token.usage",
            ("type",),
            MappingProxyType(
                {
                    "input": "input",
                    "output": "output",
                    "thought": "reasoning",
                    "cache": "cache_read",
                    "tool": "other",
                }
            ),
            provider="gemini",
            nesting=Nesting(cache_inside=True, reasoning_inside=False),
            unless="gen_ai.client.token.usage",
        ),
        "codex.turn.token_usage": MetricRule(
            "codex.turn.token_usage",
            ("token_type",),
            MappingProxyType(
                {
                    "input": "input",
                    "cached_input": "cache_read",
                    "output": "output",
                    "reasoning_output": "reasoning",
                    "total": None,
                }
            ),
            provider="openai",
        ),
    }
)

MODEL = ("model", "model_name")  # beside those of spans, in metrics of single tools

SIGNALS: Mapping[str, Signal] = MappingProxyType(
    {
        "com.anthropic.claude_code": "logs",
        "com.anthropic.sdk": "traces",
        "litellm": "traces",
        "openlit.": "traces",
        "opentelemetry.instrumentation.": "traces",
        "opentelemetry.util.genai": "traces",
        "pydantic-ai": "traces",
    }
)
"""Beginnings of scopes that describe a call by several signals, and which of these tells most."""


@dataclass(frozen=True, slots=True)
class Names:
    """All of it, or that with what the operator adds."""

    span: Attributes = SPAN
    users: tuple[str, ...] = ()  # where the user is: the first that is not empty
    logs: Mapping[str, LogRule] = field(default_factory=lambda: LOGS)
    metrics: Mapping[str, MetricRule] = field(default_factory=lambda: METRICS)
