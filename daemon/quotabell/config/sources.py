"""Who reports come from, and how other programs' telemetry is read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from quotabell.config.base import Section
from quotabell.config.fields import Duration, Truth, User, never_or
from quotabell.config.problems import Loc

Signal = Literal["traces", "logs", "metrics"]
Counted = Literal["input", "cache_read", "cache_write", "output", "reasoning", "other"]
LiteLLMUser = Literal[
    "end_user",
    "metadata.user_api_key_alias",
    "metadata.user_api_key_end_user_id",
    "metadata.user_api_key_org_id",
    "metadata.user_api_key_team_id",
    "metadata.user_api_key_user_email",
    "metadata.user_api_key_user_id",
    "model_parameters.user",
]
SHORTEST, LONGEST = timedelta(minutes=1), timedelta(days=365)  # silence of a source
_MOST = 1_000  # entries of one list or mapping


def _once(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Texts = Annotated[tuple[Text, ...], Field(max_length=_MOST), AfterValidator(_once)]


class Identity(Section):
    """Whose usage it is, where the token is not bound to a user."""

    aliases: Annotated[dict[User, User], Field(max_length=100_000)] = Field(default_factory=dict)
    litellm: Annotated[tuple[LiteLLMUser, ...], AfterValidator(_once)] = (
        "metadata.user_api_key_user_id",
        "end_user",
        "metadata.user_api_key_end_user_id",
        "model_parameters.user",
    )
    otlp: Texts = (
        "user.id",
        "enduser.id",
        "gen_ai.user",
        "gen_ai.request.user",
        "traceloop.association.properties.user_id",
        "metadata.user_api_key_user_id",
        "litellm.metadata.user_api_key_user_id",
        "metadata.user_api_key_end_user_id",
        "litellm.metadata.user_api_key_end_user_id",
        "llm.user",
        "user.email",
        "user.account_uuid",
    )


class SpanNames(Section):
    """Further attributes of spans and records by which a call is described."""

    provider: Texts = ()
    model: Texts = ()
    id: Texts = ()
    input: Texts = ()
    output: Texts = ()
    cache_read: Texts = ()
    cache_write: Texts = ()
    reasoning: Texts = ()
    other: Texts = ()
    total: Texts = ()
    cost: Texts = ()


class LogEvent(SpanNames):
    """An event of log records that tells what a call consumed, by these attributes only."""

    event: Text
    default_provider: Text | Literal[""] = ""
    cache_inside: Truth = True
    reasoning_inside: Truth = True


class TokenMetric(Section):
    """A metric that counts tokens: all as ``counts``, or by the values of the attribute ``by``."""

    metric: Text
    counts: Counted | None = None
    by: Text | Literal[""] = ""
    input: Texts = ()
    output: Texts = ()
    cache_read: Texts = ()
    cache_write: Texts = ()
    reasoning: Texts = ()
    other: Texts = ()
    default_provider: Text | Literal[""] = ""
    cache_inside: Truth = True
    reasoning_inside: Truth = True

    @classmethod
    def contradictions(cls, raw: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
        if bool(raw.get("counts")) == bool(raw.get("by")):
            yield ("counts",), "is needed, or by with the values that mean input, output…; not both"


class SourceSignal(Section):
    """Which signal of some sources counts."""

    source: Text
    signal: Signal


class SourceSilence(Section):
    """How long some sources may be silent; 0: for ever."""

    source: Text
    after: Annotated[Duration, never_or(SHORTEST, LONGEST)]


class Sources(Section):
    """How the telemetry of other programs is read."""

    signals: Annotated[tuple[SourceSignal, ...], Field(max_length=_MOST)] = ()
    stale: Annotated[tuple[SourceSilence, ...], Field(max_length=_MOST)] = ()
    attributes: SpanNames = SpanNames()
    logs: Annotated[tuple[LogEvent, ...], Field(max_length=_MOST)] = ()
    metrics: Annotated[tuple[TokenMetric, ...], Field(max_length=_MOST)] = ()
