"""How other programs' reports are read, from the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from quotabell.config import Config
from quotabell.config.sources import LogEvent, SpanNames, TokenMetric
from quotabell.domain.series import Nesting, Role
from quotabell.formats.names import LOGS, METRICS, SPAN, Attributes, LogRule, MetricRule, Names

_BY_VALUE: tuple[Role, ...] = (
    *("input", "output", "cache_read", "cache_write"),
    *("reasoning", "other"),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """``aliases``: who has several names; ``litellm``: where its reports name the user."""

    names: Names
    aliases: Mapping[str, str]
    litellm: Sequence[str]


def reading_of(config: Config) -> Reading:
    """The known names with those of the configuration before them."""
    sources, identity = config.sources, config.identity
    known = SPAN._asdict()
    given = _given(sources.attributes)
    names = Names(
        Attributes(**{name: (*given[name], *known[name]) for name in Attributes._fields}),
        identity.otlp,
        {**LOGS, **{rule.event: _log(rule) for rule in sources.logs}},
        {**METRICS, **{rule.metric: _metric(rule) for rule in sources.metrics}},
    )
    return Reading(names, identity.aliases, identity.litellm)


def _given(names: SpanNames) -> dict[str, tuple[str, ...]]:
    return {name: getattr(names, name) for name in Attributes._fields}


def _log(rule: LogEvent) -> LogRule:
    nesting = Nesting(rule.cache_inside, rule.reasoning_inside)
    return LogRule(rule.default_provider, Attributes(**_given(rule)), nesting)


def _metric(rule: TokenMetric) -> MetricRule:
    return MetricRule(
        rule.metric,
        (rule.by,) if rule.by else (),
        {value: role for role in _BY_VALUE for value in getattr(rule, role)},
        rule.counts,
        rule.default_provider,
        Nesting(rule.cache_inside, rule.reasoning_inside),
    )
