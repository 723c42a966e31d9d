"""The ``usage`` object of a provider's answer, and the disjoint kinds that it stands for.

Providers nest their counts differently:

- OpenAI chat (``prompt_tokens`` …) and responses (``input_tokens`` with ``…_details``): the
  cache is part of the input, reasoning part of the output. xAI answers in the same shape
  with reasoning beside the output.
- Anthropic messages (``input_tokens`` with ``cache_…_input_tokens``): the cache lies beside
  the input, thinking is part of the output.
- Gemini (``promptTokenCount`` …, snake case in its Python client): the cache is part of the
  prompt, thoughts lie beside the candidates (inside, in some answers of AI Studio), and so
  do the prompts of tools.

The provider's own total decides between inside and beside, where it fits one of them only.
Breakdowns by modality (audio, image, text) cross these kinds and are not read.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from quotabell.domain.events import Kinds
from quotabell.domain.usage import BIGINT_MAX
from quotabell.formats.json_text import NotANumber

Tokens = Annotated[int, msgspec.Meta(ge=0, le=BIGINT_MAX)] | None


_PYTHON = re.compile(r"""'([^'"\\]*)'|\bNone\b|\bTrue\b|\bFalse\b""")
_AS_JSON = {"None": "null", "True": "true", "False": "false"}


class InputDetails(msgspec.Struct, gc=False):
    """``prompt_tokens_details``, ``input_tokens_details``: parts of the input."""

    cached_tokens: Tokens = None
    cache_write_tokens: Tokens = None
    cache_creation_tokens: Tokens = None  # LiteLLM's word for the same


class OutputDetails(msgspec.Struct, gc=False):
    """``completion_tokens_details``, ``output_tokens_details``: parts of the output."""

    reasoning_tokens: Tokens = None
    thinking_tokens: Tokens = None  # Anthropic


class CacheCreation(msgspec.Struct, gc=False):
    """``cache_creation``: parts of ``cache_creation_input_tokens``."""

    ephemeral_5m_input_tokens: Tokens = None
    ephemeral_1h_input_tokens: Tokens = None


class Usage(msgspec.Struct, gc=False):
    """Every field that is read of any provider's object; null and absent are the same."""

    prompt_tokens: Tokens = None
    completion_tokens: Tokens = None
    input_tokens: Tokens = None
    output_tokens: Tokens = None
    total_tokens: Tokens = None
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None
    prompt_cache_hit_tokens: Tokens = None  # DeepSeek
    cache_read_input_tokens: Tokens = None
    cache_creation_input_tokens: Tokens = None
    cache_creation: CacheCreation | None = None
    promptTokenCount: Tokens = None
    cachedContentTokenCount: Tokens = None
    candidatesTokenCount: Tokens = None
    thoughtsTokenCount: Tokens = None
    toolUsePromptTokenCount: Tokens = None
    totalTokenCount: Tokens = None
    prompt_token_count: Tokens = None
    cached_content_token_count: Tokens = None
    candidates_token_count: Tokens = None
    thoughts_token_count: Tokens = None
    tool_use_prompt_token_count: Tokens = None
    total_token_count: Tokens = None


_decode = msgspec.json.Decoder(Usage).decode


def kinds(usage: Usage) -> Kinds | None:
    """The disjoint kinds of a usage object; None: it holds no count at all.

    Gateways that speak for several providers send the fields of two of them and fill one set
    with 0; so the first count that is not 0 is taken. The total may be above `BIGINT_MAX`.
    """
    u = usage
    nested = u.prompt_tokens_details or u.input_tokens_details
    read = write = 0
    if nested is not None:
        read = nested.cached_tokens or 0
        write = nested.cache_write_tokens or nested.cache_creation_tokens or 0
    cache_inside = bool(read or write or u.prompt_tokens or not u.input_tokens)
    thought = u.completion_tokens_details or u.output_tokens_details
    reasoning = 0
    if thought is not None:
        reasoning = thought.reasoning_tokens or thought.thinking_tokens or 0
    thoughts = u.thoughtsTokenCount or u.thoughts_token_count or 0
    found = disjoint(
        u.prompt_tokens or u.input_tokens or u.promptTokenCount or u.prompt_token_count or 0,
        read or _cache_read(u),
        write or _cache_written(u),
        u.completion_tokens
        or u.output_tokens
        or u.candidatesTokenCount
        or u.candidates_token_count
        or 0,
        reasoning or thoughts,
        u.toolUsePromptTokenCount or u.tool_use_prompt_token_count or 0,
        u.total_tokens or u.totalTokenCount or u.total_token_count or 0,
        cache_inside,
        not thoughts,
    )
    return found if any(found) or _says_zero(u) else None


def written(text: str) -> Kinds | None:
    """The kinds of a usage object in a text: JSON, or a dict as Python writes it. None: it is none.

    Of Python's forms those are understood that usage takes: plain words in quotes, None, booleans.
    """
    as_json = _PYTHON.sub(lambda found: _AS_JSON.get(found[0]) or f'"{found[1]}"', text)
    try:
        return kinds(_decode(as_json))
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


def _cache_read(u: Usage) -> int:
    return (
        u.cache_read_input_tokens
        or u.prompt_cache_hit_tokens
        or u.cachedContentTokenCount
        or u.cached_content_token_count
        or 0
    )


def _cache_written(u: Usage) -> int:
    if u.cache_creation_input_tokens or u.cache_creation is None:
        return u.cache_creation_input_tokens or 0
    made = u.cache_creation
    return (made.ephemeral_5m_input_tokens or 0) + (made.ephemeral_1h_input_tokens or 0)


def _says_zero(u: Usage) -> bool:
    return any(getattr(u, name) == 0 for name in u.__struct_fields__)


def disjoint(
    whole_input: int,
    read: int,
    write: int,
    whole_output: int,
    reasoning: int,
    tool: int = 0,
    total: int = 0,
    cache_inside: bool = True,
    reasoning_inside: bool = True,
) -> Kinds:
    """Take the cache out of the input and reasoning out of the output, where they are inside.

    The two flags are how the format usually nests. A part larger than its whole can only lie
    beside it; else the reading that adds up to ``total`` (0: not known) is the right one.
    """
    cache = read + write
    may_cache, may_reason = cache <= whole_input, reasoning <= whole_output
    cache_inside = cache_inside and may_cache
    reasoning_inside = reasoning_inside and may_reason
    if total:
        # What the total has beyond the wholes is what lies beside them, or of no known kind.
        rest = total - whole_input - whole_output - tool
        beside = (0 if cache_inside else cache) + (0 if reasoning_inside else reasoning)
        if rest != beside:
            for cached, reasoned in (
                (cache_inside, not reasoning_inside and may_reason),
                (not cache_inside and may_cache, reasoning_inside),
                (not cache_inside and may_cache, not reasoning_inside and may_reason),
            ):
                if rest == (0 if cached else cache) + (0 if reasoned else reasoning):
                    cache_inside, reasoning_inside = cached, reasoned
                    break
            else:
                tool += max(0, rest - beside)
    return Kinds(
        whole_input - cache if cache_inside else whole_input,
        read,
        write,
        whole_output - reasoning if reasoning_inside else whole_output,
        reasoning,
        tool,
    )


def whole_number(value: Any) -> Any:
    """A count as pydantic takes it: no text, no bool, and whole if written with a point."""
    if isinstance(value, bool | str):
        raise ValueError("input should be a number")
    if isinstance(value, NotANumber):
        raise ValueError("input should be a finite number")
    if isinstance(value, Decimal):
        # Compared without arithmetic: 1e999999 fits no context, and is never made a whole number.
        if not -BIGINT_MAX - 1 <= value <= BIGINT_MAX + 1:
            raise ValueError(f"input should be between 0 and {BIGINT_MAX}")
        if value != value.to_integral_value():
            raise ValueError("input should be a whole number")
        return int(value)
    return value


Count = Annotated[int | None, Field(ge=0, le=BIGINT_MAX), BeforeValidator(whole_number)]


class Body(BaseModel):
    """What a sender writes as a JSON object; fields that are not known are ignored."""

    @model_validator(mode="before")
    @classmethod
    def _object(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("must be an object")
        return value


class InputDetailsBody(Body):
    """How much of the input went through a cache."""

    model_config = ConfigDict(title="InputTokensDetails")

    cached_tokens: Count = None
    cache_write_tokens: Count = None
    cache_creation_tokens: Count = None


class OutputDetailsBody(Body):
    """How much of the output nobody sees."""

    model_config = ConfigDict(title="OutputTokensDetails")

    reasoning_tokens: Count = None
    thinking_tokens: Count = None


class CacheCreationBody(Body):
    """What was put in the cache, by how long it stays."""

    model_config = ConfigDict(title="CacheCreation")

    ephemeral_5m_input_tokens: Count = None
    ephemeral_1h_input_tokens: Count = None


class UsageBody(Body):
    """Usage as OpenAI (chat, responses), Anthropic (messages) or Gemini returns it."""

    model_config = ConfigDict(title="ProviderUsage")

    prompt_tokens: Count = None
    completion_tokens: Count = None
    input_tokens: Count = None
    output_tokens: Count = None
    total_tokens: Count = None
    prompt_tokens_details: InputDetailsBody | None = None
    completion_tokens_details: OutputDetailsBody | None = None
    input_tokens_details: InputDetailsBody | None = None
    output_tokens_details: OutputDetailsBody | None = None
    prompt_cache_hit_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    cache_creation: CacheCreationBody | None = None
    promptTokenCount: Count = None
    cachedContentTokenCount: Count = None
    candidatesTokenCount: Count = None
    thoughtsTokenCount: Count = None
    toolUsePromptTokenCount: Count = None
    totalTokenCount: Count = None
    prompt_token_count: Count = None
    cached_content_token_count: Count = None
    candidates_token_count: Count = None
    thoughts_token_count: Count = None
    tool_use_prompt_token_count: Count = None
    total_token_count: Count = None
